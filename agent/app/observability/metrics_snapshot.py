"""Snapshot of control's state for one scrape of the metrics."""

from dataclasses import dataclass
from typing import Final, get_args

from agent import __version__
from agent.app.children.cameras import Cameras
from agent.app.children.web.request_counts import RequestCounts
from agent.app.observability.device_monitor import DeviceMonitor
from agent.app.observability.index_watch import IndexWatch
from agent.app.outbound.detections import DetectionPublisher
from agent.control.lines import report
from agent.control.state import NOTHING, State
from agent.health.clock_sync import is_synchronised
from agent.health.metrics.snapshot import AlertFacts, CacheFacts, Facts, LineFacts, LinkFacts, StreamFacts, SupplyFacts
from agent.messages.payloads import Cache, CacheReason
from agent.mqtt.link.link import Link
from agent.mqtt.publishing.publisher import Publisher

_NEVER: Final[dict[str, int]] = dict.fromkeys(get_args(CacheReason), 0)
"""Counters start at 0, because Prometheus sees no increase in one that first appears at 1."""


@dataclass(frozen=True)
class Parts:
    """Sources of the snapshot; all belong to the loop's thread."""

    device_id: str
    state: State
    streams: Cameras
    publishing: DetectionPublisher
    publisher: Publisher
    link: Link
    vitals: DeviceMonitor
    index: IndexWatch
    requests: RequestCounts


def gather(parts: Parts, cache: Cache | None, now_s: float) -> Facts:
    """Return the snapshot; `cache` is the last `cache` payload, None before the worker's first report."""
    state, vitals = parts.state, parts.vitals
    return Facts(
        info={
            "version": __version__,
            "device": parts.device_id,
            "boot": state.plant.boot,
            "board": vitals.reading.board,
            "system": vitals.reading.system,
            "power_mode": vitals.reading.power_mode,
        },
        workers_up={name: group.is_up and not group.is_hung for name, group in state.groups.items()},
        clock_synced=is_synchronised(),
        lines={
            id_: LineFacts(
                line.published.phase, line.published.ready != NOTHING, report.moves(state, line), line.serving.model
            )
            for id_, line in state.lines.items()
        },
        streams=_streams(parts),
        cache=_cache(cache),
        link=LinkFacts(
            parts.link.is_up, parts.publisher.counters(), parts.publisher.oldest_age_s, parts.link.round_trip_ms
        ),
        alerts=tuple(AlertFacts(one.code, one.line or "", one.stream or "") for one in state.alerts.values()),
        reading=vitals.reading,
        memory=vitals.memory,
        ages_s=vitals.ages_s(now_s),
        caps=vitals.caps,
        supply=SupplyFacts(dict(state.orders.counts), state.orders.bytes, parts.index.age_s),
        requests=parts.requests.totals(),
    )


def _streams(parts: Parts) -> dict[str, StreamFacts]:
    counters, state = parts.streams.counters(), parts.state
    facts = {}
    for id_, counted in parts.publishing.counted().items():
        slot = counters[id_]
        facts[id_] = StreamFacts(
            line=state.plant.streams[id_],
            status=state.streams[id_],
            captured=slot.offered,
            inferred=counted.inferred,
            dropped=slot.overwritten + slot.torn,
            published=counted.published,
            objects=counted.objects,
            stages_s={stage: total_ms / 1000 for stage, total_ms in counted.stages_ms.items()},
        )
    return facts


def _cache(cache: Cache | None) -> CacheFacts:
    if cache is None:
        return CacheFacts()
    sizes: dict[tuple[str, str], int] = {}
    for one in cache.models:
        sizes[one.model, one.state] = sizes.get((one.model, one.state), 0) + one.bytes
    evicted, refused = ({**_NEVER, **counts} for counts in (cache.evicted, cache.refused))
    pools = {str(name): (one.budget_bytes, one.used_bytes) for name, one in (cache.pools or {}).items()}
    pooled: dict[tuple[str, str, str], int] = {}
    for one in cache.models:
        for pool, size_bytes in (one.pools or {}).items():
            key = (one.model, one.state, pool)
            pooled[key] = pooled.get(key, 0) + size_bytes
    return CacheFacts(
        cache.budget_bytes,
        cache.used_bytes,
        sizes,
        evicted,
        refused,
        pools,
        pooled,
        dict(cache.groups or {}),
        len(cache.models),
    )
