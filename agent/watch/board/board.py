"""Model of the view: turns a device's messages into frozen rows; pure, with the time as an argument."""

from dataclasses import replace
from typing import Final, TypeVar

import msgspec

from agent.messages.payloads import JobState, Switch
from agent.messages.topics import is_id
from agent.watch.board.device import DeviceFold
from agent.watch.board.line import LineFold
from agent.watch.board.rows import BrokerRow, DeviceRow, LineRow, Snapshot, StreamRow
from agent.watch.board.stream import StreamFold
from agent.watch.board.topic_message import TopicMessage, UnreadableError

_ROWS: Final = 64
"""Limit of lines and of streams, because any client may publish names without end."""
_JOBS: Final = 16
"""Limit of orders for models, the newest."""
_LINE_NAMES: Final = frozenset({"ready", "live", "phase", "model/state", "state"})
_STREAM_NAMES: Final = frozenset({"status", "detections", "replay", "summary"})
_Fold = TypeVar("_Fold", LineFold, StreamFold)


class Board:
    """State of a device, computed from the messages below `base` (`{root}/{device}`); for one thread.

    Times are monotonic seconds. No published message makes a method raise.
    """

    def __init__(self, base: str) -> None:
        self.missed = 0
        """Number of messages that were dropped before `take`; set by its caller."""
        self._start: Final = f"{base}/"
        self._name: Final = base.rpartition("/")[2]
        self._device: Final = DeviceFold()
        self._lines: Final[dict[str, LineFold]] = {}
        self._streams: Final[dict[str, StreamFold]] = {}
        self._jobs: Final[dict[str, JobState]] = {}
        self._broker = BrokerRow()
        self._broker_since_s = 0.0
        self._broken = 0

    def take(self, topic: str, payload: bytes, retained: bool, now_s: float) -> None:  # noqa: FBT001 - a message's own field, in the order of MQTT
        """Update the state with one message; count an unreadable payload, ignore unknown topics."""
        if not topic.startswith(self._start):
            return
        try:
            self._fold(TopicMessage(topic[len(self._start) :], payload, retained, now_s))
        except (msgspec.MsgspecError, UnreadableError, UnicodeDecodeError, RecursionError):
            self._broken += 1

    def broker_is(self, address: str, now_s: float, *, is_up: bool, detail: str = "") -> None:
        """Set the state of this viewer's own connection to the broker; `detail` is the last error."""
        if (address, is_up) != (self._broker.address, self._broker.is_up):
            self._broker_since_s = now_s
        self._broker = BrokerRow(address, is_up, detail=detail)

    def snapshot(self, now_s: float) -> Snapshot:
        """Return all rows as of `now_s`."""
        age_s = max(0.0, now_s - self._broker_since_s)
        return Snapshot(
            broker=replace(self._broker, age_s=age_s),
            device=self._device_row(),
            lines=self._line_rows(now_s),
            streams=self._stream_rows(now_s),
            memory=self._device.memory(),
            processes=self._device.processes(),
            changeovers=tuple(self._device.changeovers),
            jobs=tuple(reversed(self._jobs.values())),
            alerts=self._device.alerts(),
            refused=self._device.refused(),
            broken=self._broken,
            missed=self.missed,
        )

    def _fold(self, message: TopicMessage) -> None:
        kind, _, below = message.name.partition("/")
        if not below:
            self._device.take(message.name, message.payload)
            return
        id_, _, name = below.partition("/")
        said = replace(message, name=name)
        if not is_id(id_):
            return
        if kind == "line" and name == "switch":
            self._device.changeovers.appendleft(msgspec.json.decode(said.payload, type=Switch))
        elif kind == "job" and name == "state":
            self._fold_job(id_, said.payload)
        elif kind == "line" and name in _LINE_NAMES:
            _take(self._lines, id_, LineFold(id_, said.at_s), said)
        elif kind == "stream" and name in _STREAM_NAMES:
            _take(self._streams, id_, StreamFold(id_, said.at_s), said)

    def _fold_job(self, id_: str, payload: bytes) -> None:
        self._jobs.pop(id_, None)
        if payload:
            self._jobs[id_] = msgspec.json.decode(payload, type=JobState)
        while len(self._jobs) > _JOBS:
            del self._jobs[next(iter(self._jobs))]

    def _device_row(self) -> DeviceRow:
        status, meta = self._device.status, self._device.meta
        if meta is None:
            return DeviceRow(self._name, status)
        version = meta.versions.get("changeover", "")
        return DeviceRow(self._name, status, meta.boot, meta.backend, version, meta.clock_synced)

    def _line_rows(self, now_s: float) -> tuple[LineRow, ...]:
        meta = self._device.meta
        names = meta.lines[:_ROWS] if meta else sorted(self._lines)
        return tuple(self._lines.setdefault(name, LineFold(name, now_s)).row(now_s) for name in names)

    def _stream_rows(self, now_s: float) -> tuple[StreamRow, ...]:
        meta, health = self._device.meta, self._device.health
        lines = {one.id: one.line for one in meta.streams[:_ROWS]} if meta else dict.fromkeys(sorted(self._streams))
        said = health.streams if health else {}
        return tuple(
            self._streams.setdefault(name, StreamFold(name, now_s)).row(now_s, line, said.get(name))
            for name, line in lines.items()
        )


def _take(folds: dict[str, _Fold], id_: str, fresh: _Fold, said: TopicMessage) -> None:
    """Apply a message to the row of `id_`, or to `fresh` for a new id; remove a row whose topics are cleared."""
    fold = folds.get(id_, fresh)
    fold.take(said)
    if fold.is_cleared:
        folds.pop(id_, None)
    elif id_ in folds or len(folds) < _ROWS:
        folds[id_] = fold
