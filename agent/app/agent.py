"""The running agent: builds its parts, feeds events to decisions, and orders start and stop."""

import logging
import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from typing import Final

from agent.app.children import memory_budget
from agent.app.children.cameras import Cameras
from agent.app.children.child_messages import ChildMessages, Owners
from agent.app.children.frame_answers import Answers
from agent.app.children.groups.workers import Workers
from agent.app.children.message_gate import Gate
from agent.app.children.roll import Roll
from agent.app.children.supply import SUPPLY, SupplyProcess
from agent.app.children.web.web_process import WEB, WebProcess
from agent.app.children.worker import worker_spec
from agent.app.clock import Clock
from agent.app.configuration.plant_builder import plant_of
from agent.app.configuration.reload import catalog_again, read_again
from agent.app.context import Context
from agent.app.from_workers import FromWorkers
from agent.app.observability.device_monitor import DeviceMonitor
from agent.app.observability.device_topics import DeviceTopics
from agent.app.observability.http_endpoints import Asked, HttpEndpoints
from agent.app.observability.index_watch import IndexWatch
from agent.app.observability.log_level import LogLevels
from agent.app.observability.memory_check import MemoryCheck
from agent.app.observability.metrics_snapshot import Parts, gather
from agent.app.observability.models_in_use import ModelsInUse
from agent.app.observability.systemd_status import SystemdStatus
from agent.app.outbound.action_executor import ActionExecutor, Callbacks
from agent.app.outbound.broker_factory import make_link, make_publisher
from agent.app.outbound.detections import DetectionPublisher
from agent.app.outbound.records import Records
from agent.app.state_disk.snapshot_file import SnapshotFile
from agent.control import snapshot
from agent.control.comparisons.comparison import Stage
from agent.control.events import (
    AckRate,
    CatalogRead,
    FramesSeen,
    Reloaded,
    Stopped,
    Stopping,
    StreamChanged,
    Tick,
)
from agent.control.lines.policy import ready_models
from agent.control.reconciler import Event, reconcile
from agent.control.state import NOTHING, State
from agent.health.metrics.exposition import Metrics
from agent.health.sensors.probe_threads import Device
from agent.health.systemd import Notifier
from agent.messages.canary import StopComparing
from agent.messages.children import Message
from agent.messages.events import (
    LinkDown,
    LinkTakenOver,
    LinkUp,
    Listening,
    Noticed,
    Received,
    ReloadRequested,
    StopRequested,
)
from agent.messages.payloads import StreamStatus
from agent.processes.loop import Loop
from agent.processes.scheduling import time_slice
from agent.processes.supervisor import ChildSpec, Supervisor

_log: Final = logging.getLogger(__name__)
_TICK_S: Final = 0.1
_STOP_S: Final = 2.0
_LAST_COUNTS_S: Final = 0.5
"""Longest wait for the last counts of comparisons, because a worker may hang."""


class Agent:
    """The control process's parts and main loop; everything here runs on the thread that calls `run`."""

    def __init__(self, context: Context, device: Device | None = None) -> None:
        """Build all parts; only tests pass a `device`."""
        settings = context.settings
        self._context = context
        self._state: Final = State.of(plant_of(settings, context.catalog, context.boot))
        self._loop: Final = Loop()
        self._metrics: Final = Metrics()
        self._link: Final = make_link(settings, context.topics, self._loop)
        self._publisher: Final = make_publisher(settings, self._link, context.topics)
        self._supervisor: Final = Supervisor(self._loop, self._from_child)
        side = context.catalog.largest_side
        self._streams: Final = Cameras(settings.stream, self._supervisor, self._stream_changed, side, settings.web)
        self._workers: Final = Workers(settings, self._supervisor, self._decide)
        shared = (settings, context.topics, self._supervisor, self._publisher, self._streams.picture_ends())
        self._web: Final = WebProcess(
            *shared,
            decide=self._decide,
            receive=self._take,
            plant=lambda: self._state.plant,
            hold=self._workers.send,
            say=lambda walls: self._topics.say_web(walls),  # noqa: PLW0108 - the topics are made later
        )
        self._roll: Final = Roll(self._supervisor, self._workers, self._streams, self._web)
        self._supply: Final = SupplyProcess(self._supervisor, lambda: self._context.settings, self._decide)
        self._answers: Final = Answers(settings.stream, {id_: line.group for id_, line in settings.line.items()})
        self._detections: Final = DetectionPublisher(
            settings.device.id,
            context.boot,
            settings.stream,
            self._publisher.send_detection,
            self._publisher.send_summary,
        )
        self._detections.observe = self._metrics.inferred
        self._metrics.expect(settings.line, [stream.id for stream in settings.stream])
        self._levels: Final = LogLevels(settings.device.log_level, self._roll.tell_level)
        self._snapshots: Final = SnapshotFile(settings.device.state_dir, self._loop.put)
        self._records: Final = Records(self._state, settings.device.state_dir, self._snapshots.save_beside)
        self._executor: Final = ActionExecutor(
            context.topics,
            self._publisher,
            self._link,
            Callbacks(
                workers=self._workers,
                save_snapshot=lambda: self._snapshots.save(snapshot.take(self._state)),
                set_publish=self._detections.set_publish,
                reload=self._reload,
                read_catalog=self._read_catalog,
                supply=self._supply,
                set_log_level=lambda level, for_s: self._levels.set_for(level, for_s, time.monotonic()),
                count_switch=self._metrics.switched,
                record_switch=self._records.switched,
                record_comparison=self._records.compared,
                answer_console=self._web.answer,
                is_bound=lambda topic: any(one.topic == topic for one in self._state.plant.bindings),
            ),
        )
        self._index: Final = IndexWatch(lambda: self._context.settings, self._decide)
        self._topics: Final = DeviceTopics(context, self._state, self._publisher, self._link, self._index)
        self._clock: Final = Clock()
        self._monitor: Final = DeviceMonitor(self._state, settings.device.hot_c, self._decide, device)
        self._in_use: Final = ModelsInUse(self._state, settings.device.state_dir, self._snapshots.save_beside)
        self._memory_check: Final = MemoryCheck(self._decide)
        self._from_workers: Final = FromWorkers(
            self._state,
            self._workers,
            self._answers,
            self._detections,
            self._topics,
            self._memory_check,
            self._metrics,
            self._decide,
            self._web.worker_lost,
        )
        of_workers = {
            child: partial(self._from_workers.take, group) for group, child in self._workers.children().items()
        }
        owners: Owners = {**of_workers, SUPPLY: self._supply.take, WEB: self._web.take}
        gates = {**self._workers.gates, SUPPLY: Gate((), ())}
        self._messages: Final = ChildMessages(
            self._supervisor, gates, self._streams, owners, metrics=self._metrics, level=lambda: self._levels.level
        )
        self._endpoints: Final = HttpEndpoints(settings.http.bind, self._metrics, self._loop.put, self._decide)
        self._systemd: Final = SystemdStatus(self._state, Notifier())
        told = (self._detections, self._publisher, self._link, self._monitor, self._index)
        self._parts: Final = Parts(settings.device.id, self._state, self._streams, *told, self._web.counts)
        self._undecided: Final[deque[Event]] = deque()
        self._is_deciding = False
        self._stopping = False
        self._tick_due_s = 0.0

    @property
    def loop(self) -> Loop:
        """The event loop, into which signal handlers enqueue."""
        return self._loop

    @property
    def http_port(self) -> int:
        """Port of /metrics; 0 while it is not served."""
        return self._endpoints.port

    @property
    def web_ports(self) -> tuple[int, int]:
        """Ports of the web process, for HTTP and gRPC; 0 while one is not served."""
        return self._web.port, self._web.grpc_port

    def run(self) -> None:
        """Serve until a StopRequested event comes, then stop all parts in reverse order."""
        time_slice.shorten()  # here, because all threads and children are started from here
        with ExitStack() as undo:
            undo.callback(self._loop.close)
            undo.callback(self._streams.close)
            undo.callback(self._web.close)
            undo.callback(self._snapshots.close)
            undo.callback(self._records.flush)
            undo.callback(self._systemd.close)
            undo.callback(self._monitor.stop)
            undo.callback(self._endpoints.stop)
            self._start()
            undo.callback(self._publish_stopped)
            undo.callback(self._supervisor.stop)
            undo.callback(lambda: self._decide(Stopping()))
            undo.callback(self._take_last_counts)
            undo.callback(self._systemd.stopping)
            while not self._stopping:
                self._loop.run_once(max(0.0, self._tick_due_s - time.monotonic()), self._from_inbox)
                self._tick_if_due()

    def _start(self) -> None:
        """Publish the initial state, then start senders, workers, and cameras."""
        snapshot.restore(self._state, self._snapshots.load())
        self._supply.begin(self._state)
        self._publisher.start(self._loop)
        self._web.watch()
        self._web.console.configured(self._context)
        self._topics.say_start()
        self._decide(Tick())
        if self._state.reloading:
            self._reload()
        self._monitor.start()
        self._endpoints.start(time.monotonic())
        self._link.start()
        if groups := self._workers.divide(memory_budget.decide(self._context.settings)):
            self._topics.say_groups(groups)
        self._workers.start(self._worker_spec)
        self._streams.start()
        self._web.start()

    def _worker_spec(self, group: str) -> ChildSpec:
        return worker_spec(
            self._context.settings,
            group,
            self._streams.slots(),
            lambda: self._workers.share_of(group),
            lambda pid: self._workers.started(group, pid),
            self._web.links.of_worker(group),
        )

    def _take_last_counts(self) -> None:
        """Have workers end comparisons and tell what they counted since their last report, and save that."""
        found = [(line, line.comparison) for line in self._state.lines.values()]
        running = [(line.id, one, one.counts) for line, one in found if one is not None and one.stage is Stage.RUNNING]
        asked = [one for one in running if self._workers.send_to_line(one[0], StopComparing(one[0], one[1].number))]
        until_s = time.monotonic() + _LAST_COUNTS_S
        while any(one.stage is Stage.RUNNING and one.counts is before for _, one, before in asked):
            if (left_s := until_s - time.monotonic()) <= 0:
                break
            self._loop.run_once(left_s, self._from_inbox)
        if running:
            self._snapshots.save(snapshot.take(self._state))

    def _publish_stopped(self) -> None:
        """Publish `ready` 0 for every line, then status `stopped`, and wait for their acknowledgement."""
        left = reconcile(self._state, Stopped(), self._clock.now())
        done = self._publisher.stop(self._topics.last_words(left), _STOP_S)
        _log.info("event=stopped acknowledged=%s", done)

    def _decide(self, event: Event) -> None:
        """Pass an event to `reconcile` and perform its actions; events raised meanwhile are handled afterwards."""
        self._undecided.append(event)
        if self._is_deciding:
            return
        self._is_deciding = True
        try:
            while self._undecided:
                self._decide_one(self._undecided.popleft())
        finally:
            self._is_deciding = False

    def _decide_one(self, event: Event) -> None:
        decided_ns = time.monotonic_ns()
        self._executor.perform(reconcile(self._state, event, self._clock.now()))
        performed_ns = time.monotonic_ns()
        for line in self._state.lines.values():
            is_ready = line.published.ready != NOTHING
            # Frames between decision and publication count as not ready, because `ready` changes in between.
            since_ns = performed_ns if is_ready else decided_ns
            right = ready_models(self._state.plant, line) if is_ready else ()
            self._detections.line_changed(line.id, line.selection.product, since_ns, right)

    def _tick_if_due(self) -> None:
        """Tick by time only, because a tick after each message used most of control's CPU time."""
        now_s = time.monotonic()
        if now_s >= self._tick_due_s:
            self._tick_due_s = now_s + _TICK_S
            self._tick(now_s)

    def _tick(self, now_s: float) -> None:
        self._link.tick(now_s)
        self._publisher.tick()
        self._supervisor.tick(now_s)
        self._streams.tick()
        self._workers.tick(now_s, self._answers.turns_s())
        self._detections.tick()
        if (kbps := self._publisher.acknowledged_kbps(now_s)) != self._state.bandwidth.measured_kbps:
            self._decide(AckRate(kbps))
        self._decide(FramesSeen(self._answers.seen(self._streams.counters(), self._state.lines.values())))
        self._decide(Tick())
        self._executor.tick(self._clock.now())
        self._levels.tick(now_s)
        self._snapshots.tick(now_s)
        self._in_use.tick(now_s)
        self._records.tick(now_s)
        self._monitor.tick(now_s, self._roll.pids)
        self._index.tick(now_s)
        self._memory_check.killed(self._workers.kept_bytes)
        self._memory_check.tick(now_s, self._monitor.reading, self._monitor.memory, self._workers.pids().values())
        self._topics.tick(now_s, self._streams, self._detections, self._monitor, self._metrics.trouble)
        self._endpoints.tick(now_s)
        self._web.console.tick(is_connected=self._link.is_up)
        self._systemd.tick(now_s, self._roll.silent_s(now_s), link_up=self._link.is_up)

    def _reload(self) -> None:
        self._systemd.reloading()
        self._context, reloaded = read_again(self._context)
        self._levels.configure(self._context.settings.device.log_level)
        is_taken = reloaded.plant is not None
        level = logging.INFO if is_taken else logging.WARNING
        _log.log(level, "event=reloaded ok=%s detail=%r", is_taken, reloaded.detail)
        self._loop.put(reloaded)

    def _read_catalog(self) -> None:
        self._context, read = catalog_again(self._context)
        self._loop.put(read)

    def _from_inbox(self, event: object) -> None:
        if self._link.handle(event):
            return
        match event:
            case StopRequested():
                _log.info("event=stop_requested signal=%d", event.signal)
                self._stopping = True
            case LinkUp() | Listening():
                self._link_changed(event)
            case LinkTakenOver() | Noticed():
                self._decide(event)
            case ReloadRequested():
                self._reload()
            case Reloaded() | CatalogRead():
                self._take_configuration(event)
            case Asked():
                event.answers.put(gather(self._parts, self._topics.cache, time.monotonic()))
            case LinkDown():
                _log.debug("event=link_down detail=%r", event.detail)
            case Received():
                self._take(event)

    def _take_configuration(self, event: Reloaded | CatalogRead) -> None:
        self._decide(event)
        self._topics.say_configuration(self._context)
        self._web.console.configured(self._context)
        self._streams.models_changed(self._context.catalog.largest_side)
        if isinstance(event, Reloaded):
            self._systemd.reloaded(event.detail, ok=event.plant is not None)

    def _link_changed(self, event: LinkUp | Listening) -> None:
        if isinstance(event, LinkUp):
            self._decide(event)
            self._topics.listen()
        elif event.connection == self._link.connection:
            self._topics.announce()

    def _take(self, message: Received) -> None:
        """Handle a message; no exception escapes, because a retained message would end each restart."""
        try:
            _log.debug("event=received topic=%r bytes=%d", message.topic[:200], len(message.payload))
            self._topics.heard(message)
            self._decide(message)
        except Exception:  # noqa: BLE001 - see above; the loop's edge
            _log.exception("event=message_failed topic=%r bytes=%d", message.topic[:200], len(message.payload))

    def _stream_changed(self, stream: str, status: StreamStatus, detail: str) -> None:
        _log.info("event=stream_%s stream=%s", status, stream)
        self._decide(StreamChanged(stream, status, detail))

    def _from_child(self, child: str, message: Message) -> None:
        self._messages.take(child, message)
