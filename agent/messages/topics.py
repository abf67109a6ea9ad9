"""Names of all topics that the device publishes to, subscribes to or clears of old retained messages."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

OfDevice = Literal["status", "meta", "cache", "health", "alert", "alerts", "ack", "refused"]
OfLine = Literal["ready", "live", "phase", "model/state", "state", "switch", "canary"]
OfStream = Literal["detections", "replay", "summary", "status"]
LineCommand = Literal["product/set", "model/set", "prepare", "canary/set"]
DeviceCommand = Literal["schedule/set", "bandwidth/set", "models/set"]
OF_DEVICE: Final[tuple[OfDevice, ...]] = get_args(OfDevice)
OF_LINE: Final[tuple[OfLine, ...]] = get_args(OfLine)
OF_STREAM: Final[tuple[OfStream, ...]] = get_args(OfStream)
LINE_COMMANDS: Final[tuple[LineCommand, ...]] = get_args(LineCommand)
DEVICE_COMMANDS: Final[tuple[DeviceCommand, ...]] = get_args(DeviceCommand)
LINE_RETAINED: Final[tuple[OfLine, ...]] = ("ready", "phase", "model/state", "state", "canary")
"""Retained topics of a line, cleared when the line is no longer configured."""
_JOB_STATE: Final = "state"
_LINE_SWEPT: Final[tuple[OfLine, ...]] = ("ready", "phase", "live", "canary")


def is_id(text: str) -> bool:
    """Return True for a valid id of a device, line or stream."""
    return _ID.fullmatch(text) is not None


def of_line(line: str, name: OfLine | LineCommand) -> str:
    """Return a topic of a line, relative to the device; `+` stands for every line."""
    return f"line/{line}/{name}"


def of_stream(stream: str, name: OfStream) -> str:
    """Return a topic of a stream, relative to the device; `+` stands for every stream."""
    return f"stream/{stream}/{name}"


def of_job(id_: str) -> str:
    """Return the topic of a job's state, relative to the device; `+` stands for every job."""
    return f"job/{id_}/{_JOB_STATE}"


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
        return f"{self.base}/{of_line(line, name)}"

    def of_stream(self, stream: str, name: OfStream) -> str:
        """Return a topic of a stream."""
        return f"{self.base}/{of_stream(stream, name)}"

    def of_job(self, id_: str) -> str:
        """Return the topic of a job's state."""
        return f"{self.base}/{of_job(id_)}"

    @property
    def swept(self) -> list[str]:
        """Filters subscribed to only at each connect: our own `meta`, and topics with old retained messages."""
        lines = [self.of_line("+", name) for name in _LINE_SWEPT]
        return [self.of_device("meta"), *lines, self.of_stream("+", "status"), self.of_job("+")]

    def published(self, lines: Iterable[str], streams: Iterable[str]) -> list[str]:
        """Return every topic that a device with these lines and streams publishes to, without `ping`."""
        of_lines = [self.of_line(line, name) for line in lines for name in OF_LINE]
        of_streams = [self.of_stream(stream, name) for stream in streams for name in OF_STREAM]
        return [*map(self.of_device, OF_DEVICE), *of_lines, *of_streams]

    def is_published(self, topic: str) -> bool:
        """Return True for a topic that the device publishes to with any lines and streams; False for `ping`."""
        name = topic.removeprefix(f"{self.base}/")
        kind, _, rest = name.partition("/")
        id_, _, last = rest.partition("/")
        if kind == "job" and is_id(id_):
            return last == _JOB_STATE
        if kind in {"line", "stream"} and is_id(id_):
            return last in (OF_LINE if kind == "line" else OF_STREAM)
        return name != topic and name in OF_DEVICE

    def is_own(self, topic: str) -> bool:
        """Return True for a topic of this device."""
        return topic.startswith(f"{self.base}/")

    def is_ready(self, topic: str) -> bool:
        """Return True for a line's `ready` topic."""
        return topic.startswith(f"{self.base}/line/") and topic.endswith("/ready")

    def may_answer(self, response_topic: str) -> bool:
        """Return True for an allowed response topic: one outside `root` that is no `$` topic of the broker."""
        return response_topic not in {"", self.root} and not response_topic.startswith((f"{self.root}/", "$"))
