"""The device's own retained topics: status, meta, cache, alerts and stream status; and `health`."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from agent import __version__
from agent.app.children.cameras import Cameras
from agent.app.context import Context
from agent.app.observability.cache_topic import CacheTopic
from agent.app.observability.device_monitor import DeviceMonitor
from agent.app.observability.index_watch import IndexWatch
from agent.app.observability.model_processors import ModelProcessors
from agent.app.outbound.detections import DetectionPublisher
from agent.control.actions import Action, PublishState
from agent.control.inputs import routes
from agent.control.lines.report import moves
from agent.control.state import NOTHING, State
from agent.health.clock_sync import is_synchronised
from agent.health.interval_timer import IntervalTimer
from agent.health.report import INTERVAL_S, DeviceReading, LinkReading, Reporter, StreamReading
from agent.messages.children import CacheDecided, CacheState, MemoryKept, ModelRuns
from agent.messages.events import Noticed, Received
from agent.messages.groups.told import MetaGroup
from agent.messages.payloads import Cache, Meta, MetaStream
from agent.messages.topics import LINE_RETAINED, is_id
from agent.messages.web.told import MetaWeb
from agent.mqtt.access.topic_filter import TopicFilter
from agent.mqtt.link.link import Link
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.publishing.publisher import Publisher

_RUNTIMES: Final = ("openvino", "onnxruntime", "ultralytics")
"""Names of runtimes, in the order in which `backend = "auto"` prefers them for an ONNX file."""
_MOST_CLEARED: Final = 1024
"""Bound on cleared topics, so that a broker full of foreign topics cannot fill our memory."""


class DeviceTopics:
    """Publisher of the device's own topics, for the loop's thread."""

    def __init__(self, context: Context, state: State, publisher: Publisher, link: Link, index: IndexWatch) -> None:
        self._context = context
        self._index: Final = index
        self._topics: Final = context.topics
        self._state: Final = state
        self._publisher: Final = publisher
        self._link: Final = link
        self._reporter: Final = Reporter()
        self._ledger = CacheTopic(lone=next(iter(context.settings.groups)))
        self._groups: Mapping[str, MetaGroup] = {}
        self._web: MetaWeb | msgspec.UnsetType = msgspec.UNSET
        self._processors: Final = ModelProcessors()
        self._versions: dict[str, str] = {"changeover": __version__}
        self._cleared: Final[set[str]] = set()
        self._cadence: Final = IntervalTimer(INTERVAL_S)

    @property
    def cache(self) -> Cache | None:
        """The `cache` payload; None before the first report of a worker."""
        return self._ledger.payload(self._processors.resident)

    def say_start(self) -> None:
        """Publish the initial state: online, every stream offline, no alert, nothing refused."""
        self._publisher.send_state(self._topics.status, b"online")
        self._publisher.send_state(self._topics.of_device("alerts"), b"[]")
        self._publisher.send_state(self._topics.of_device("refused"), b"[]")
        for stream, status in self._state.streams.items():
            self._publisher.send_state(self._topics.of_stream(stream, "status"), status.encode())
        self._say_meta()

    def say_groups(self, groups: Mapping[str, MetaGroup]) -> None:
        """Publish the groups, of which there are several; call it before their workers start."""
        self._groups = groups
        self._ledger = CacheTopic({group: one.memory_bytes for group, one in groups.items()})
        self._say_meta()

    def say_web(self, walls: MetaWeb) -> None:
        """Publish the walls around the web process."""
        self._web = walls
        self._say_meta()

    def say_versions(self, versions: dict[str, str]) -> None:
        """Publish the versions of the workers' runtimes."""
        self._versions |= versions
        self._say_meta()

    def say_configuration(self, context: Context) -> None:
        """Subscribe to the topics of a reloaded configuration, and publish `meta`."""
        self._context = context
        self._link.listen(self._commands())
        self._say_meta()

    def hear_processor(self, message: ModelRuns, group: str) -> None:
        """Record the processor of a loaded model, which is published once the model is resident."""
        self._processors.take(message, group)

    def say_cache(self, message: CacheState | CacheDecided | MemoryKept, group: str) -> list[Noticed]:
        """Record a report of a group's worker and publish the cache; return the state of the alerts on processors."""
        self._ledger.take(message, group)
        if isinstance(message, CacheState):
            self._processors.take(message, group)
        return self._say_ledger()

    def say_no_cache(self, group: str) -> list[Noticed]:
        """Publish the cache after the loss of a group's worker; return the state of the alerts on processors."""
        self._ledger.worker_lost(group)
        self._processors.worker_lost(group)
        return self._say_ledger()

    def listen(self) -> None:
        """Subscribe to all topics; required after every connect, before `announce`."""
        # Retained leftovers (see `heard`) and a duplicate's `meta` are read once at each connect. These filters
        # are passing, because each of our own messages would otherwise come back.
        passing = [TopicFilter(topic, is_passing=True) for topic in self._topics.swept]
        self._link.listen([*self._commands(), *passing])

    def announce(self) -> None:
        """Publish every retained topic; required after every connect, once the subscriptions deliver."""
        self._publisher.announce()
        # `live` 0 is sent, because a subscriber may still hold an earlier heartbeat as valid.
        for line in self._state.lines.values():
            if line.published.ready == NOTHING:
                self._publisher.send_live(self._topics.of_line(line.id, "live"), NOTHING.encode())

    def _commands(self) -> list[TopicFilter]:
        plant = self._state.plant
        filters = routes.filters(plant.base, (binding.topic for binding in plant.bindings))
        return [TopicFilter(filter_, routes.exact(plant, filter_)) for filter_ in filters]

    def heard(self, message: Received) -> None:
        """Clear the retained topics of lines, streams, jobs and comparisons that are no more, and any `live`."""
        kind, _, rest = message.topic.removeprefix(f"{self._topics.base}/").partition("/")
        id_, _, name = rest.partition("/")
        if not message.retained or not message.payload or not is_id(id_):
            return
        if kind == "line" and name == "live":
            self._clear_live(id_)
        elif kind == "line" and name in {"ready", "phase", "canary"} and id_ not in self._state.lines:
            self._clear([self._topics.of_line(id_, topic) for topic in LINE_RETAINED])
        elif kind == "line" and name == "canary" and self._state.lines[id_].comparison is None:
            self._clear([self._topics.of_line(id_, "canary")])
        elif kind == "stream" and name == "status" and id_ not in self._state.streams:
            self._clear([self._topics.of_stream(id_, "status")])
        elif kind == "job" and name == "state" and id_ not in self._state.orders.states:
            self._clear([self._topics.of_job(id_)])

    def _clear_live(self, line: str) -> None:
        """Clear a retained `live` and publish the true value, because subscribers just received an empty one."""
        self._link.publish(OutgoingMessage(self._topics.of_line(line, "live"), b"", qos=0, retain=True))
        known = self._state.lines.get(line)
        if known is not None and moves(self._state, known):
            self._publisher.send_live(self._topics.of_line(line, "live"), known.published.ready.encode())

    def _clear(self, topics: list[str]) -> None:
        if len(self._cleared) < _MOST_CLEARED:
            self._cleared.update(topics)
            for topic in topics:
                self._publisher.send_state(topic, b"")

    def tick(
        self,
        now_s: float,
        streams: Cameras,
        publishing: DetectionPublisher,
        vitals: DeviceMonitor,
        worker: Mapping[str, int],
    ) -> None:
        """Publish `health` when it is due, the first one after the first measurement."""
        if vitals.memory is None or not self._cadence.is_due(now_s):
            return
        self._say_meta()
        counters, statistics, decoders = streams.counters(), publishing.statistics(), streams.decoders()
        readings = {
            id_: StreamReading(one.offered, one.overwritten + one.torn, *statistics[id_], decoders[id_])
            for id_, one in counters.items()
        }
        link = LinkReading(self._publisher.counters(), self._publisher.oldest_age_s, self._link.round_trip_ms)
        device = DeviceReading(
            vitals.reading, vitals.memory, vitals.ages_s(now_s), vitals.caps, worker, self._index.age_s
        )
        health = self._reporter.report(now_s, readings, device, link, self._processors.resident)
        self._publisher.send_live(self._topics.of_device("health"), msgspec.json.encode(health))

    def last_words(self, left: Iterable[Action]) -> list[tuple[str, bytes]]:
        """Return the last topics and payloads: `ready` 0, those of `left`, an empty cache, and status `stopped`."""
        ready = [(self._topics.of_line(line, "ready"), NOTHING.encode()) for line in self._state.lines]
        rest = [(f"{self._topics.base}/{one.topic}", one.payload) for one in left if isinstance(one, PublishState)]
        self._ledger.all_lost()
        self._processors.all_lost()
        ledger = self.cache
        cache = [(self._topics.of_device("cache"), msgspec.json.encode(ledger))] if ledger is not None else []
        return [*ready, *rest, *cache, (self._topics.status, b"stopped")]

    def _say_ledger(self) -> list[Noticed]:
        cache = self.cache
        if cache is not None:
            self._publisher.send_state(self._topics.of_device("cache"), msgspec.json.encode(cache))
        self._say_meta()
        return self._processors.notices()

    def _say_meta(self) -> None:
        settings = self._context.settings
        meta = Meta(
            versions=self._versions,
            device=settings.device.id,
            backend=self._processors.runtime() or next((name for name in _RUNTIMES if name in self._versions), ""),
            lines=sorted(settings.line),
            streams=[MetaStream(stream.id, stream.line) for stream in settings.stream],
            models=[version.reference for version in sorted(self._context.catalog.versions, key=lambda one: one.rank)],
            configuration_hash=self._context.configuration_hash,
            boot=self._context.boot,
            clock_synced=is_synchronised(),
            unsafe=[version.reference for version in self._context.catalog.versions if version.unsafe],
            compute=settings.device.compute,
            processors=dict(self._processors.resident),
            keypoints=self._processors.keypoints(),
            groups=dict(self._groups) or msgspec.UNSET,
            web=self._web,
        )
        self._publisher.send_state(self._topics.of_device("meta"), msgspec.json.encode(meta))
