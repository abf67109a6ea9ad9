"""Topics of the contract: builder and parser."""

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
"""Kinds with payloads up to 64 KiB; the others have 4 KiB."""


def is_id(text: str) -> bool:
    """Return True for a valid id of a device, line or stream."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Incoming:
    """The command that an incoming topic carries."""

    kind: Kind
    name: str | None = None
    """The line, or for `cmd` the verb; None for a command of the device."""


@dataclass(frozen=True)
class Topics:
    """All topics of one device, below `{root}/{device}`."""

    root: str
    device: str

    @cached_property
    def base(self) -> str:
        """The common prefix, without a trailing slash."""
        return f"{self.root}/{self.device}"

    @property
    def status(self) -> str:
        """The device's status: `online`, `stopped` or `offline`."""
        return f"{self.base}/status"

    @property
    def ping(self) -> str:
        """The topic of the agent's echo ping."""
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
        """Return the filters to subscribe to after each connect; `ping` belongs to the link."""
        lines = [f"{self.base}/line/+/{kind}" for kind in _OF_A_LINE]
        device = [f"{self.base}/{kind}" for kind in _OF_THE_DEVICE if kind != "ping"]
        return [*lines, *device, f"{self.base}/cmd/+", *dict.fromkeys(bindings)]

    def parse(self, topic: str) -> Incoming | None:
        """Return the command of an incoming topic; None for a topic that is not the device's own."""
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
        """Return True where a response topic is allowed: none below our root, and none of the broker's."""
        return response_topic not in {"", self.root} and not response_topic.startswith((f"{self.root}/", "$"))


def _of_a_line(rest: str) -> Incoming | None:
    if not rest.startswith("line/"):
        return None
    line, _, name = rest[len("line/") :].partition("/")
    for kind in _OF_A_LINE:
        if name == kind and is_id(line):
            return Incoming(kind, line)
    return None
