"""Canaries on a bad day: what `canary`, `ready` and the names of models say is true at each moment."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from support.brokers import Mosquitto
from support.candidates import CANDIDATE, NAMES, STABLE, add_version
from support.random_run import RandomRun
from support.running_agent import BASE, RunningAgent
from support.tiny_models import write_tiny_model
from support.witness import Witness

from agent.mqtt.blocking_client import Arrival, BlockingClient

MODELS = {"line-1": {"bottle-500": "a", "17": "b", "crate": "a"}, "line-2": {"open": "b", "shut": "a"}}
SHORT_S = 40.0
LONG_S = float(os.environ.get("SOAK_S", "900"))
ENOUGH = 20
"""Canaries of a run that says something."""
LONG_ENOUGH_S = 300.0
SEED = int(os.environ.get("SOAK_SEED", "3"))
_OTHERS: Final = 0.15
"""Share of the commands that are of products and models."""
_CANARY_ENDS: Final = frozenset(
    {("done", None), ("noop", None), ("rejected", "not_understood")}
    | {("failed", reason) for reason in ("superseded", "worker_lost", "timeout", "load_failed")}
)
_IN_FLIGHT_S: Final = 2.0
"""Time for which a candidate's answers may still arrive after its worker could hear of the end of its canary."""


class CanaryWitness(Witness):
    """Also finds a candidate's answer outside of a canary, and a canary whose words contradict each other."""

    def __init__(self) -> None:
        super().__init__(BASE, MODELS)
        self.begun = 0
        self.ends: dict[str, int] = {}
        self.serves = ""
        """Newest `model/state` of line-1."""
        self._canary: dict[str, Any] = {}
        self._ended_s = float("-inf")

    def forget(self) -> None:
        super().forget()
        self._canary = {}
        self.serves = ""
        self._ended_s = time.monotonic()

    def thawed(self) -> None:
        """Note that a worker was frozen until now: it may take a frame before it hears of an end."""
        if not _answers(self._canary):
            self._ended_s = time.monotonic()

    def take(self, arrival: Arrival) -> None:
        super().take(arrival)
        name = arrival.topic.removeprefix(f"{BASE}/")
        if name == "line/line-1/canary" and arrival.payload:
            self._told(json.loads(arrival.payload), arrival.at_s)
        elif name == "line/line-1/model/state":
            self.serves = arrival.payload.decode()
        elif name.startswith("stream/") and name.endswith("/detections"):
            self._of_candidate(json.loads(arrival.payload), arrival.at_s)

    def _told(self, one: dict[str, Any], at_s: float) -> None:
        if _answers(self._canary) and not _answers(one):
            self._ended_s = at_s
        if one["stage"] == "running" and self._canary.get("stage") != "running":
            self.begun += 1
        if one["stage"] == "ended" and self._canary.get("stage") not in {"ended", None}:
            self.ends[one["result"]] = self.ends.get(one["result"], 0) + 1
        is_ended = one["result"] in {"promoted", "rolled_back", "stopped"}
        if is_ended != (one["stage"] == "ended") or (one["ended_at"] is not None) != is_ended:
            self.violations.append(f"a canary contradicts itself: {one}")
        if one["answered"] > one["seen"] or any(one[name] < self._counted(one)[name] for name in ("frames", "seen")):
            self.violations.append(f"a canary counts backwards: {one} after {self._canary}")
        self._canary = one

    def _counted(self, one: dict[str, Any]) -> dict[str, int]:
        """Return what was counted of the same canary before; a killed agent may lose what it has not saved."""
        before = self._canary
        is_same = before and all(one[name] == before[name] for name in ("id", "candidate", "since", "boot"))
        return before if is_same else {"frames": 0, "seen": 0}

    def _of_candidate(self, one: dict[str, Any], at_s: float) -> None:
        is_known = bool(self._canary) and {one["model"], self.serves} <= {STABLE, CANDIDATE}
        if one["line"] != "line-1" or not is_known or one["model"] == self.serves:
            return
        is_candidate = one["model"] == self._canary["candidate"]
        may_answer = _answers(self._canary) or at_s - self._ended_s < _IN_FLIGHT_S
        if not (is_candidate and may_answer):
            self.violations.append(f"{one['model']} answered outside of a canary ({self._canary}): {one}")


def _answers(one: dict[str, Any]) -> bool:
    """Return True where the words allow answers of the candidate, also those of a promotion in progress."""
    return one.get("mode") == "canary" and (one["stage"] in {"starting", "running"} or one["result"] == "promoted")


class CanaryRun(RandomRun):
    """A bad day on which an operator mostly begins, stops and promotes canaries."""

    witness: CanaryWitness

    def _thaw(self, child: psutil.Process) -> None:
        super()._thaw(child)
        self.witness.thawed()

    def _command(self) -> None:
        if self._rng.random() < _OTHERS:
            super()._command()
            return
        self._later(self._rng.uniform(0.2, 2.0), self._command)
        if self._witness.ready.get("line-1") not in {"bottle-500", "crate"}:
            self._send("line-1", "model/set", "auto")
            self._send("line-1", "product/set", self._rng.choice(["bottle-500", "crate"]))
            return
        other = STABLE if self.witness.serves == CANDIDATE else CANDIDATE
        asked: dict[str, Any] = {"candidate": other, "mode": "canary", "share": 0.5}
        asked |= {"frames": self._rng.choice([20, 5000]), "promote": self._rng.choice(["auto", "ask"])}
        value: Any = asked  # JSON in place of a text
        self._send("line-1", "canary/set", self._rng.choice([value, value, value, "stop", "promote"]), _CANARY_ENDS)


@pytest.mark.parametrize(
    ("seconds", "seed"),
    [(SHORT_S, 3), pytest.param(LONG_S, SEED, marks=[pytest.mark.soak, pytest.mark.timeout(LONG_S + 600)])],
)
def test_canaries_on_a_bad_day(
    make_mosquitto: Callable[..., Mosquitto],
    ears: Callable[[int], tuple[BlockingClient, BlockingClient]],
    tmp_path: Path,
    seconds: float,
    seed: int,
) -> None:
    broker = make_mosquitto(persistence=True)
    plc, ear = ears(broker.port)
    agent = RunningAgent(tmp_path / "box", broker.url, plc, _two_products_each)
    add_version(agent, write_tiny_model(agent.folder / "alpha-2.onnx", names=NAMES))
    witness = CanaryWitness()
    day = CanaryRun(agent, broker, plc, ear, witness, seed)
    day.witness = witness
    try:
        agent.start()
        day.run(seconds)
        day.settle()
    finally:
        agent.kill()
    print(  # noqa: T201 - measured figures
        f"\nseed={seed} seconds={seconds:.0f} detections={witness.detections} while_named={witness.named}"
        f" canaries={witness.begun} ends={witness.ends} faults={day.faults} dropped={ear.dropped}"
    )
    assert not witness.violations, witness.violations[:5]
    assert witness.begun >= (ENOUGH if seconds >= LONG_ENOUGH_S else 1)
    assert "message_failed" not in agent.log()


def _two_products_each(settings: dict[str, Any]) -> None:
    products = {"bottle-500": STABLE, "17": "beta", "crate": STABLE}
    settings["canary"] = {"least_frames": 20}  # so that a short canary promotes
    settings["line"]["line-1"] |= {"default": STABLE, "products": products}
    settings["line"]["line-2"]["products"]["shut"] = STABLE
