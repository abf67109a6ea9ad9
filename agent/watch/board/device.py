"""State of the device itself, computed from its messages."""

from collections import deque
from typing import Final, get_args

import msgspec

from agent.messages.payloads import Alert, Cache, DeviceStatus, Health, Meta, Refused, Switch
from agent.watch.board.rows import MemoryRow, ProcessRow
from agent.watch.board.topic_message import one_of

_CHANGEOVERS: Final = 8
_ALERTS: Final = 64
_REFUSED: Final = 8
_AVAILABLE: Final = "available_bytes"
_OF_THE_DEVICE: Final = frozenset({_AVAILABLE, "total_bytes"})


class DeviceFold:
    """Status, metadata, health, cache and alerts of the device; for one thread."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.meta: Meta | None = None
        self.health: Health | None = None
        self.changeovers: Final[deque[Switch]] = deque(maxlen=_CHANGEOVERS)
        self._cache: Cache | None = None
        self._alerts: list[Alert] = []
        self._refused: list[Refused] = []

    def take(self, name: str, payload: bytes) -> None:
        """Update the state with one message of the topic `{device}/{name}`."""
        match name:
            case "status":
                self.status = one_of(get_args(DeviceStatus), payload)
            case "meta":
                self.meta = msgspec.json.decode(payload, type=Meta) if payload else None
            case "cache":
                self._cache = msgspec.json.decode(payload, type=Cache) if payload else None
            case "health":
                self.health = msgspec.json.decode(payload, type=Health)
            case "alerts":
                self._alerts = msgspec.json.decode(payload, type=list[Alert])[:_ALERTS] if payload else []
            case "refused":
                self._refused = msgspec.json.decode(payload, type=list[Refused])[-_REFUSED:] if payload else []
            case "alert":
                self._change(msgspec.json.decode(payload, type=Alert))

    def alerts(self) -> tuple[Alert, ...]:
        """Return the active alerts."""
        return tuple(alert for alert in self._alerts if alert.on)

    def refused(self) -> tuple[Refused, ...]:
        """Return the last refused commands, newest first."""
        return tuple(reversed(self._refused))

    def memory(self) -> MemoryRow | None:
        """Return budget and use of memory; None before the first `cache` message."""
        cache = self._cache
        return MemoryRow(cache.budget_bytes, cache.used_bytes, tuple(cache.models)) if cache else None

    def processes(self) -> ProcessRow | None:
        """Return the row of processes; None before the first `health` message."""
        health = self.health
        if health is None:
            return None
        return ProcessRow(
            memory_bytes=tuple(
                (name.removesuffix("_bytes"), size)
                for name, size in health.memory.items()
                if name not in _OF_THE_DEVICE
            ),
            available_bytes=health.memory.get(_AVAILABLE),
            load=health.load[0] if health.load else None,
            hottest_c=max(health.temperatures_c.values(), default=None),
            outbox=sum(health.outbox.get(name, 0) for name in ("events", "detections")),
            outbox_dropped=sum(count for name, count in health.outbox.items() if name.endswith("_dropped")),
            round_trip_ms=health.round_trip_ms,
        )

    def _change(self, change: Alert) -> None:
        key = (change.code, change.line, change.stream)
        others = [alert for alert in self._alerts if (alert.code, alert.line, alert.stream) != key]
        self._alerts = [*others, change][-_ALERTS:] if change.on else others
