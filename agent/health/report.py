"""Report of streams, memory, device and link on the `health` topic, every 5 s."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import GpuMemory, Reading
from agent.messages.payloads import DeviceHealth, Health, ModelProcessor, StreamHealth
from agent.messages.texts.utc import utc_text

INTERVAL_S: Final = 5.0
_PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True)
class StreamReading:
    """Counters of one stream since the agent started, with its newest latencies."""

    offered: int
    dropped: int
    inferred: int
    latencies_ms: Sequence[float]
    decoder: str = ""
    """Decoder of a network stream, with the reason where it is not hardware; empty for other sources."""


@dataclass(frozen=True)
class LinkReading:
    """Outbox counters and round-trip time of the broker link."""

    outbox: dict[str, int]
    outbox_age_s: float
    round_trip_ms: float | None


@dataclass(frozen=True)
class DeviceReading:
    """Sensor readings of the device, and the model caps that follow from them."""

    reading: Reading
    memory: HostReading | None
    ages_s: Mapping[str, float]
    caps: Mapping[str, str]
    worker: Mapping[str, int] = field(default_factory=dict)
    index_age_s: float | None = None
    """Age of the signed index of models; None without one."""


class Reporter:
    """Builder of health reports, which converts counters to rates since the last report."""

    def __init__(self) -> None:
        self._inferred: dict[str, int] = {}
        self._at_s = 0.0

    def report(
        self,
        now_s: float,
        streams: Mapping[str, StreamReading],
        device: DeviceReading,
        link: LinkReading,
        processors: Mapping[str, ModelProcessor],
    ) -> Health:
        """Return the report; `now_s` is time.monotonic, `processors` are those of the resident models by reference."""
        passed_s, self._at_s = now_s - self._at_s, now_s
        health = {id_: self._stream(id_, reading, passed_s) for id_, reading in streams.items()}
        return Health(
            at=utc_text(time.time()),
            streams=health,
            memory=_memory(device.memory) | _gpu_memory(device.reading.gpu),
            load=[round(one, 2) for one in os.getloadavg()],
            temperatures_c={name: round(zone.celsius, 1) for name, zone in device.reading.zones.items()},
            power_w=device.reading.power_w,
            outbox=link.outbox,
            outbox_age_s=round(link.outbox_age_s, 1),
            round_trip_ms=link.round_trip_ms,
            device=_device(device),
            caps=dict(device.caps),
            worker=dict(device.worker),
            processors=dict(processors),
            index_age_s=round(device.index_age_s) if device.index_age_s is not None else None,
        )

    def _stream(self, id_: str, reading: StreamReading, passed_s: float) -> StreamHealth:
        new = reading.inferred - self._inferred.get(id_, 0)
        self._inferred[id_] = reading.inferred
        ordered_ms = sorted(reading.latencies_ms)
        return StreamHealth(
            fps=round(new / passed_s, 2) if passed_s > 0 else 0.0,
            latency_ms={f"p{share}": _percentile(ordered_ms, share) for share in _PERCENTILES},
            offered=reading.offered,
            inferred=reading.inferred,
            dropped=reading.dropped,
            decoder=reading.decoder,
        )


def _percentile(ordered: Sequence[float], share: int) -> float:
    """Return the nearest-rank percentile of sorted values; 0 without values."""
    return round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 1) if ordered else 0.0


def _memory(memory: HostReading | None) -> dict[str, int]:
    if memory is None:
        return {}
    processes = {f"{name}_bytes": size for name, size in memory.processes.items()}
    return {**processes, "available_bytes": memory.available_bytes, "total_bytes": memory.total_bytes}


def _gpu_memory(gpu: GpuMemory | None) -> dict[str, int]:
    return {} if gpu is None else {"gpu_available_bytes": gpu.free_bytes, "gpu_total_bytes": gpu.total_bytes}


def _device(device: DeviceReading) -> DeviceHealth:
    reading, memory = device.reading, device.memory
    return DeviceHealth(
        sources=reading.source,
        board=reading.board,
        system=reading.system,
        power_mode=reading.power_mode,
        rails_w=dict(reading.rails_w),
        limits_c={name: zone.limit_c for name, zone in reading.zones.items() if zone.limit_c is not None},
        gpu_load=reading.gpu_load,
        slowed=list(reading.slowed) if reading.slowed is not None else None,
        memory_stalled=memory.stalled if memory is not None else None,
        ages_s={name: round(age_s, 1) for name, age_s in device.ages_s.items()},
    )
