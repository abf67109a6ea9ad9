"""The topics of contract.md: how they are built, and what an incoming one is about."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERB: Final = re.compile(r"[a-z_]{1,32}")

Kind = Literal["product/set", "model/set", "prepare", "schedule/set", "bandwidth/set", "cmd", "ping"]
_OF_A_LINE: Final[tuple[Kind, ...]] = ("product/set", "model/set", "prepare")
_OF_THE_DEVICE: Final[tuple[Kind, ...]] = ("schedule/set", "bandwidth/set", "ping")
LARGE_KINDS: Final[frozenset[Kind]] = frozenset({"schedule/set", "cmd"})
"""Kinds whose payload may have 64 KiB; the others' 4 KiB."""


def is_id(text: str) -> bool:
    """Whether `text` may name a device, a line or a stream."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Incoming:
    """What an incoming topic is about. `name`: the line, or for `cmd` the verb; None where it is the device."""

    kind: Kind
    name: str | None = None


@dataclass(frozen=True)
class Topics:
    """All topics of one device, below `{root}/{device}`."""

    root: str
    device: str

    @cached_property
    def base(self) -> str:
        """The common start, without a slash at its end."""
        return f"{self.root}/{self.device}"

    @property
    def status(self) -> str:
        """`online`, `stopped`, `offline`."""
        return f"{self.base}/status"

    @property
    def ping(self) -> str:
        """The agent's own, to itself."""
        return f"{self.base}/ping"

    def of_device(self, name: Literal["status", "meta", "cache", "health", "alert", "alerts", "ack"]) -> str:
        """Return a topic of the device itself."""
        return f"{self.base}/{name}"

    def of_line(self, line: str, name: Literal["ready", "live", "phase", "model/state", "state", "switch"]) -> str:
        """Return a topic of a line."""
        return f"{self.base}/line/{line}/{name}"

    def of_stream(self, stream: str, name: Literal["detections", "replay", "summary", "status"]) -> str:
        """Return a topic of a stream."""
        return f"{self.base}/stream/{stream}/{name}"

    def subscriptions(self, bindings: tuple[str, ...] = ()) -> list[str]:
        """Return what to subscribe to after each connect (`ping` is the link's own matter)."""
        lines = [f"{self.base}/line/+/{kind}" for kind in _OF_A_LINE]
        device = [f"{self.base}/{kind}" for kind in _OF_THE_DEVICE if kind != "ping"]
        return [*lines, *device, f"{self.base}/cmd/+", *dict.fromkeys(bindings)]

    def parse(self, topic: str) -> Incoming | None:
        """Return what an incoming topic is about, or None where it is not one of the device's own."""
        start = f"{self.base}/"
        if not topic.startswith(start):
            return None
        rest = topic[len(start) :]
        for kind in _OF_THE_DEVICE:
            if rest == kind:
                return Incoming(kind)
        if rest.startswith("cmd/"):
            verb = rest[len("cmd/") :]
            return Incoming("cmd", verb) if _VERB.fullmatch(verb) else None
        return _of_a_line(rest)

    def may_answer(self, response_topic: str) -> bool:
        """Whether an answer may go to a topic that a client named: never onto one of this or another device's."""
        return response_topic not in {"", self.root} and not response_topic.startswith((f"{self.root}/", "$"))


def _of_a_line(rest: str) -> Incoming | None:
    if not rest.startswith("line/"):
        return None
    line, _, name = rest[len("line/") :].partition("/")
    for kind in _OF_A_LINE:
        if name == kind and is_id(line):
            return Incoming(kind, line)
    return None
