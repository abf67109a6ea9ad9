"""Sees only the broker's messages, and finds each moment at which they contradict the contract."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.mqtt.blocking_client import Arrival

FRESH_S = 3.0
"""A PLC may run on a `live` that is younger."""
_FINAL = ("done", "noop", "rejected", "failed")


@dataclass
class Sent:
    """A command of the PLC's: `number` counts those of its line, `payload` is what a repetition sends again."""

    line: str
    number: int
    topic: str
    payload: str
    may_end: frozenset[tuple[str, str | None]]
    sent_s: float
    accepted: bool = False
    finals: list[bytes] = field(default_factory=list)


class Witness:
    """`models` says of each line's products the first letter of the model's name, and so of its labels.

    Feed it what one subscription at QoS 0 brings, in order: there live and retained words keep the publisher's order.
    """

    def __init__(self, base: str, models: Mapping[str, Mapping[str, str]]) -> None:
        self.violations: list[str] = []
        self.detections = 0
        self.named = 0
        self.sent: dict[str, Sent] = {}
        self.ready: dict[str, str] = {}
        self._base = base
        self._models = models
        self._status = ""
        self._live: dict[str, tuple[str, float]] = {}

    def forget(self) -> None:
        """Note that our own connection is gone: what was said is not known any more."""
        self.ready.clear()
        self._live.clear()
        self._status = ""

    def take(self, arrival: Arrival) -> None:
        parts = arrival.topic.removeprefix(f"{self._base}/").split("/")
        match parts:
            case ["status"]:
                self._status = arrival.payload.decode()
            case ["line", line, "ready"]:
                self.ready[line] = arrival.payload.decode()
            case ["line", line, "live"]:
                self._live[line] = arrival.payload.decode(), arrival.at_s
            case ["stream", _, "detections"]:
                self._detected(json.loads(arrival.payload), arrival.at_s)
            case ["stream", _, "replay"]:
                self._labelled(json.loads(arrival.payload))
            case ["ack"]:
                self._answered(arrival.payload)

    def finish(self) -> None:
        """Look at what can be judged at the end only: everything that was accepted was answered for good."""
        for id_, one in self.sent.items():
            if one.accepted and not one.finals:
                self.violations.append(f"{id_} was accepted and never answered: {one}")

    def _detected(self, one: dict[str, Any], at_s: float) -> None:
        self.detections += 1
        self._labelled(one)
        line, letter = one["line"], one["model"][0]
        live, live_s = self._live.get(line, ("0", 0.0))
        said = {"ready": self.ready.get(line, "0") if self._status == "online" else "0"}
        said["live"] = live if at_s - live_s < FRESH_S else "0"
        for word, product in said.items():
            if product == "0":
                continue
            self.named += 1
            if self._models[line][product] != letter:
                self.violations.append(f"{word} named {product!r} when {one['model']} answered: {one}")

    def _labelled(self, one: dict[str, Any]) -> None:
        wrong = [found["label"] for found in one["objects"] if found["label"][0] != one["model"][0]]
        if wrong:
            self.violations.append(f"{one['model']} never says {wrong}: {one}")

    def _answered(self, payload: bytes) -> None:
        ack = json.loads(payload)
        one = self.sent.get(ack["id"])
        if one is None:
            return
        if ack["result"] == "accepted":
            one.accepted = True
            return
        if ack["result"] not in _FINAL or (ack["result"], ack["reason"]) not in one.may_end:
            self.violations.append(f"no answer to {one}: {ack}")
        if one.finals and one.finals[0] != payload:
            self.violations.append(f"two answers to {one}: {payload!r}")
        if ack["reason"] == "superseded" and not self._is_overtaken(one):
            self.violations.append(f"nothing overtook {one}: {ack}")
        one.finals.append(payload)

    def _is_overtaken(self, one: Sent) -> bool:
        return any(other.line == one.line and other.number > one.number for other in self.sent.values())
