"""The `health` topic: how streams, memory and the link are doing, every 5 s."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import psutil

from agent.health.memory import available_bytes, resident_bytes
from agent.messages.payloads import Health, StreamHealth

INTERVAL_S: Final = 5.0
_PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True)
class StreamReading:
    """One stream since the boot: frames, and its newest latencies."""

    offered: int
    dropped: int
    inferred: int
    latencies_ms: Sequence[float]


@dataclass(frozen=True)
class LinkReading:
    """What waits for the broker, and how far away it is."""

    outbox: dict[str, int]
    outbox_age_s: float
    round_trip_ms: float | None


class Reporter:
    """Turns counters since the boot into rates since the last report."""

    def __init__(self) -> None:
        self._inferred: dict[str, int] = {}
        self._at_s = 0.0

    def report(
        self, now_s: float, streams: Mapping[str, StreamReading], processes: Mapping[str, int], link: LinkReading
    ) -> Health:
        """Return the report. `processes` maps names to pids; `now_s` is monotonic."""
        passed_s, self._at_s = now_s - self._at_s, now_s
        health = {id_: self._stream(id_, reading, passed_s) for id_, reading in streams.items()}
        memory = {f"{name}_bytes": resident_bytes(pid) for name, pid in processes.items()}
        return Health(
            at=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            streams=health,
            memory={**memory, "available_bytes": available_bytes()},
            load=[round(one, 2) for one in os.getloadavg()],
            temperatures_c=_temperatures(),
            power_w=None,
            outbox=link.outbox,
            outbox_age_s=round(link.outbox_age_s, 1),
            round_trip_ms=link.round_trip_ms,
        )

    def _stream(self, id_: str, reading: StreamReading, passed_s: float) -> StreamHealth:
        new = reading.inferred - self._inferred.get(id_, 0)
        self._inferred[id_] = reading.inferred
        return StreamHealth(
            fps=round(new / passed_s, 2) if passed_s > 0 else 0.0,
            latency_ms={f"p{share}": _percentile(reading.latencies_ms, share) for share in _PERCENTILES},
            offered=reading.offered,
            inferred=reading.inferred,
            dropped=reading.dropped,
        )


def _percentile(values: Sequence[float], share: int) -> float:
    """Return the nearest-rank percentile, 0 for nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 1) if ordered else 0.0


def _temperatures() -> dict[str, float]:
    return {
        f"{chip}_{sensor.label or index}": float(sensor.current)
        for chip, sensors in psutil.sensors_temperatures().items()
        for index, sensor in enumerate(sensors)
    }
