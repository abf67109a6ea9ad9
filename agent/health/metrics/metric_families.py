"""Metric families of one snapshot: base units, `_total` for counters, labels for kinds."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from agent.health.metrics.snapshot import CacheFacts, Facts, LinkFacts, SupplyFacts
from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading
from agent.messages.payloads import JobEnd

NAMESPACE: Final = "changeover"
_PHASES: Final = ("idle", "preparing", "switching", "ready", "degraded", "fault")
_STATUSES: Final = ("online", "stalled", "offline", "ended")

_Samples = Iterable[tuple[tuple[str, ...], float | None]]


def of(facts: Facts) -> Iterator[Metric]:
    """Yield every metric family; one without a known value has no samples."""
    yield InfoMetricFamily(NAMESPACE, "The agent and its device.", dict(facts.info))
    yield _gauge("worker_up", "Whether every worker process runs.", _one(float(all(facts.workers_up.values()))))
    if len(facts.workers_up) > 1:
        yield from _groups(facts)
    yield _gauge("clock_synchronised", "Whether the wall clock can be believed.", _one(float(facts.clock_synced)))
    yield from _lines(facts)
    yield from _streams(facts)
    yield from _cache(facts.cache)
    yield from _link(facts.link)
    yield from _device(facts.reading)
    yield from _memory(facts.memory)
    yield from _trouble(facts)
    yield from _supply(facts.supply)
    yield from _requests(facts)


def _requests(facts: Facts) -> Iterator[Metric]:
    labels, rows = ("client", "model", "outcome"), facts.requests.items()
    yield _counter("requests", "Inference requests, by how they ended.", [(key, one[0]) for key, one in rows], *labels)
    seconds = [(key, one[1]) for key, one in rows]
    yield _counter("request_seconds", "Time that inference requests took.", seconds, *labels)


def _groups(facts: Facts) -> Iterator[Metric]:
    workers = _labelled({group: float(is_up) for group, is_up in facts.workers_up.items()})
    yield _gauge("group_worker_up", "Whether the worker process of the group runs.", workers, "group")
    memory = facts.cache.groups
    guaranteed = _labelled({group: one.guaranteed_bytes for group, one in memory.items()})
    yield _gauge("group_memory_guaranteed_bytes", "Bytes that the group can always use.", guaranteed, "group")
    limits = _labelled({group: one.limit_bytes for group, one in memory.items()})
    yield _gauge("group_memory_limit_bytes", "Bytes that the group may use now.", limits, "group")
    used = _labelled({group: one.used_bytes for group, one in memory.items()})
    yield _gauge("group_memory_used_bytes", "Bytes that the group's models are charged for.", used, "group")


def _lines(facts: Facts) -> Iterator[Metric]:
    lines = facts.lines.items()
    yield _gauge("line_ready", "Whether `ready` names a product.", [((id_,), one.ready) for id_, one in lines], "line")
    yield _gauge("line_live", "Whether `live` is sent.", [((id_,), one.moves) for id_, one in lines], "line")
    phases = [((id_, phase), one.phase == phase) for id_, one in lines for phase in _PHASES]
    yield _gauge("line_phase", "1 for the phase that the line is in.", phases, "line", "phase")
    models = [((id_, one.model), 1.0) for id_, one in lines if one.model]
    yield _gauge("line_model", "1 for the model that serves the line.", models, "line", "model")


def _streams(facts: Facts) -> Iterator[Metric]:
    streams = facts.streams.items()
    keys = {id_: (id_, one.line) for id_, one in streams}
    statuses = [((*keys[id_], word), one.status == word) for id_, one in streams for word in _STATUSES]
    yield _gauge("stream_status", "1 for the status that the stream has.", statuses, "stream", "line", "status")
    counters = (
        ("frames_captured", "Frames offered by the camera, after pacing.", [one.captured for _, one in streams]),
        ("frames_inferred", "Frames that were answered.", [one.inferred for _, one in streams]),
        (
            "frames_dropped",
            "Frames overwritten before they were inferred, or torn.",
            [one.dropped for _, one in streams],
        ),
        ("detections", "Messages that the stream's frames led to.", [one.published for _, one in streams]),
    )
    for name, text, values in counters:
        yield _counter(name, text, zip(keys.values(), values, strict=True), "stream", "line")
    objects = [((id_, label), count) for id_, one in streams for label, count in one.objects.items()]
    yield _counter("objects", "Objects found, by label.", objects, "stream", "label")
    stages = [((id_, stage), seconds) for id_, one in streams for stage, seconds in one.stages_s.items()]
    yield _counter("frame_stage_seconds", "Where the time of all frames went.", stages, "stream", "stage")


def _cache(cache: CacheFacts) -> Iterator[Metric]:
    yield _gauge("resident_models", "Models that are loaded.", _one(cache.loaded))
    models = [(key, size) for key, size in cache.models.items()]
    yield _gauge("resident_model_bytes", "Bytes charged for a loaded model.", models, "model", "state")
    yield _counter("evictions", "Models unloaded to make room, by reason.", _labelled(cache.evicted), "reason")
    yield _counter("refusals", "Models refused for want of memory, by reason.", _labelled(cache.refused), "reason")
    yield _gauge("memory_budget_bytes", "Bytes that resident models may take together.", _one(cache.budget_bytes))
    yield _gauge("memory_used_bytes", "Bytes that are charged to the budget.", _one(cache.used_bytes))
    if cache.pools:
        yield from _pools(cache)


def _pools(cache: CacheFacts) -> Iterator[Metric]:
    budgets = {name: budget_bytes for name, (budget_bytes, _) in cache.pools.items()}
    used = {name: used_bytes for name, (_, used_bytes) in cache.pools.items()}
    pooled = [(key, size) for key, size in cache.pooled.items()]
    yield _gauge("pool_budget_bytes", "The budget of one pool, where there are two.", _labelled(budgets), "pool")
    yield _gauge("pool_used_bytes", "Bytes that are charged to one pool.", _labelled(used), "pool")
    yield _gauge("resident_model_pool_bytes", "A loaded model's part of a pool.", pooled, "model", "state", "pool")


def _link(link: LinkFacts) -> Iterator[Metric]:
    drops, refusals = _ending(link.outbox, "_dropped"), _ending(link.outbox, "_refused")
    sizes = {name: size for name, size in link.outbox.items() if name.endswith("bytes")}
    depths = {name: link.outbox[name] for name in drops if name in link.outbox}
    round_trip_s = link.round_trip_ms / 1000 if link.round_trip_ms is not None else None
    yield _gauge("broker_connected", "Whether the broker accepted us.", _one(float(link.is_up)))
    yield _gauge("broker_round_trip_seconds", "To the broker and back.", _one(round_trip_s))
    yield _gauge("outbox_messages", "Messages without an acknowledgement.", _labelled(depths), "kind")
    yield _gauge("outbox_bytes", "What they take.", _one(sizes.get("bytes")))
    yield _gauge("outbox_disk_bytes", "What they take on disk.", _one(sizes.get("disk_bytes")))
    yield _gauge("outbox_oldest_age_seconds", "How long the oldest has waited.", _one(link.outbox_age_s))
    yield _counter("outbox_dropped", "Messages given up, by kind.", _labelled(drops), "kind")
    yield _counter("outbox_refused", "Refusals by the broker, by kind; most are retried.", _labelled(refusals), "kind")


def _device(reading: Reading) -> Iterator[Metric]:
    zones = reading.zones.items()
    limits = [((name,), zone.limit_c) for name, zone in zones]
    yield _gauge("temperature_celsius", "A zone's temperature.", [((n,), z.celsius) for n, z in zones], "zone")
    yield _gauge("temperature_limit_celsius", "Where the device begins to slow itself down.", limits, "zone")
    yield _gauge("power_watts", "Power of all that the source sees.", _one(reading.power_w))
    yield _gauge("rail_power_watts", "Power of one rail.", _labelled(reading.rails_w), "rail")
    yield _gauge("gpu_load_ratio", "Share of time that the GPU is busy.", _one(reading.gpu_load))
    slowed = float(len(reading.slowed)) if reading.slowed is not None else None
    yield _gauge("slowed_parts", "Parts of the device that are being held down.", _one(slowed))


def _memory(memory: HostReading | None) -> Iterator[Metric]:
    processes = memory.processes if memory is not None else {}
    yield _gauge("process_memory_bytes", "Proportional share of a process' memory.", _labelled(processes), "process")
    stalls = {"some": memory.stalled, "full": memory.halted} if memory is not None else {}
    yield _gauge("device_memory_bytes", "The device's memory.", _one(memory.total_bytes if memory else None))
    yield _gauge(
        "device_memory_free_bytes", "What can still be allocated.", _one(memory.free_bytes if memory else None)
    )
    yield _gauge("memory_stalled_ratio", "Share of the last 10 s waiting for memory.", _labelled(stalls), "kind")


def _trouble(facts: Facts) -> Iterator[Metric]:
    alerts = [((one.code, one.line, one.stream), 1.0) for one in facts.alerts]
    yield _gauge("alert", "1 for each alert that is on.", alerts, "code", "line", "stream")
    caps = [((rule, variant), 1.0) for rule, variant in facts.caps.items()]
    yield _gauge("cap", "1 for each cap that holds.", caps, "rule", "max_variant")
    yield _gauge("reading_age_seconds", "Age of a source's last reading.", _labelled(facts.ages_s), "source")


def _supply(supply: SupplyFacts) -> Iterator[Metric]:
    ended = {**dict.fromkeys(get_args(JobEnd), 0), **supply.ended}
    yield _counter("jobs", "Ended orders for models, by their last state.", _labelled(ended), "state")
    yield _counter("fetched_bytes", "Bytes of models fetched.", [((), supply.fetched_bytes)])
    yield _gauge("index_age_seconds", "Age of the signed index of models.", _one(supply.index_age_s))


def _one(value: float | None) -> _Samples:
    return [((), value)]


def _labelled(values: Mapping[str, float] | Mapping[str, float | None]) -> _Samples:
    return [((name,), value) for name, value in values.items()]


def _gauge(name: str, text: str, samples: _Samples, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
    return _filled(family, samples)


def _counter(name: str, text: str, samples: _Samples, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: _Samples) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, float(value))
    return family


def _ending(counts: Mapping[str, int], end: str) -> dict[str, int]:
    return {name.removesuffix(end): count for name, count in counts.items() if name.endswith(end)}
