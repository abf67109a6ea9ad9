"""Topics that the device publishes to or sweeps; commands are in control's routes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, auto
from functools import cached_property
from typing import Final, Literal, get_args

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

OfDevice = Literal["status", "meta", "cache", "health", "alert", "alerts", "ack"]
OfLine = Literal["ready", "live", "phase", "model/state", "state", "switch"]
OfStream = Literal["detections", "replay", "summary", "status"]


class Use(Flag):
    """What is done with a topic beside publishing to it."""

    NONE = 0
    CLEARED = auto()
    """Retained; cleared once its line or stream is no longer configured."""
    SWEPT = auto()
    """Heard at the start of a connection only: a duplicate's `meta`, and retained leftovers."""


OF_DEVICE: Final = dict.fromkeys(get_args(OfDevice), Use.NONE) | {"meta": Use.SWEPT}
OF_LINE: Final[dict[OfLine, Use]] = {
    "ready": Use.CLEARED | Use.SWEPT,
    "live": Use.SWEPT,
    "phase": Use.CLEARED | Use.SWEPT,
    "model/state": Use.CLEARED,
    "state": Use.CLEARED,
    "switch": Use.NONE,
}
OF_STREAM: Final = dict.fromkeys(get_args(OfStream), Use.NONE) | {"status": Use.CLEARED | Use.SWEPT}
"""The table of topics: what is published, swept, cleared, and tried by `doctor` comes from it."""
LINE_RETAINED: Final = tuple(name for name, use in OF_LINE.items() if use & Use.CLEARED)


def is_id(text: str) -> bool:
    """Return True for a valid id of a device, line or stream."""
    return _ID.fullmatch(text) is not None


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

    def of_device(self, name: OfDevice) -> str:
        """Return a topic of the device itself."""
        return f"{self.base}/{name}"

    def of_line(self, line: str, name: OfLine) -> str:
        """Return a topic of a line."""
        return f"{self.base}/line/{line}/{name}"

    def of_stream(self, stream: str, name: OfStream) -> str:
        """Return a topic of a stream."""
        return f"{self.base}/stream/{stream}/{name}"

    @property
    def swept(self) -> list[str]:
        """Filters heard only at the start of a connection."""
        of_device = [self.of_device(name) for name, use in OF_DEVICE.items() if use & Use.SWEPT]
        of_lines = [self.of_line("+", name) for name, use in OF_LINE.items() if use & Use.SWEPT]
        of_streams = [self.of_stream("+", name) for name, use in OF_STREAM.items() if use & Use.SWEPT]
        return [*of_device, *of_lines, *of_streams]

    def published(self, lines: Iterable[str], streams: Iterable[str]) -> list[str]:
        """Return every topic that a device with these lines and streams publishes to, without `ping`."""
        of_lines = [self.of_line(line, name) for line in lines for name in OF_LINE]
        of_streams = [self.of_stream(stream, name) for stream in streams for name in OF_STREAM]
        return [*map(self.of_device, OF_DEVICE), *of_lines, *of_streams]

    def is_own(self, topic: str) -> bool:
        """Return True for a topic of this device."""
        return topic.startswith(f"{self.base}/")

    def is_ready(self, topic: str) -> bool:
        """Return True for a line's `ready` topic."""
        return topic.startswith(f"{self.base}/line/") and topic.endswith("/ready")

    def may_answer(self, response_topic: str) -> bool:
        """Return True where a response topic is allowed: none below our root, and none of the broker's."""
        return response_topic not in {"", self.root} and not response_topic.startswith((f"{self.root}/", "$"))
