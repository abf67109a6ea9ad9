"""Hands the messages of workers to the parts that they are for."""

import logging
import time
from collections.abc import Callable
from typing import Final

from agent.app.children.frame_answers import Answers
from agent.app.children.groups.workers import Workers
from agent.app.observability.device_topics import DeviceTopics
from agent.app.observability.memory_check import MemoryCheck
from agent.app.outbound.detections import DetectionPublisher
from agent.control.events import ModelsLoading, WorkerCrashed, WorkerLost, WorkerUp
from agent.control.reconciler import Event
from agent.control.state import State
from agent.health.metrics.exposition import Metrics
from agent.messages import children
from agent.messages.children import Message
from agent.messages.events import ChildLost, ChildUp
from agent.messages.groups.memory_share import ShareAsked, ShareHeld
from agent.messages.worker import Outcome

_log: Final = logging.getLogger(__name__)


class FromWorkers:
    """Dispatcher of all messages of workers, for the loop's thread; the gate has accepted them before."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts that hear of a worker, spelt out
        self,
        state: State,
        workers: Workers,
        answers: Answers,
        detections: DetectionPublisher,
        topics: DeviceTopics,
        memory_check: MemoryCheck,
        metrics: Metrics,
        decide: Callable[[Event], None],
        tell_web: Callable[[str], None],
    ) -> None:
        self._state: Final = state
        self._workers: Final = workers
        self._answers: Final = answers
        self._detections: Final = detections
        self._topics: Final = topics
        self._memory_check: Final = memory_check
        self._metrics: Final = metrics
        self._decide: Final = decide
        self._tell_web: Final = tell_web
        self._failing: Final[set[str]] = set()

    def take(self, group: str, message: Message) -> None:
        """Handle a message of a group's worker, or its loss."""
        match message:
            case children.Detections():
                self._detected(message)
            case children.Beat():
                self._answers.told(message.streams)
            case children.InferenceFailed():
                self._failing.add(message.stream)
                self._decide(message)
            case children.Swapped():
                self._metrics.swapped(message)
                self._decide(message)
            case _ if isinstance(message, Outcome):
                self._decide(message)
            case children.CacheState() | children.CacheDecided() | children.MemoryKept():
                self._of_cache(group, message)
            case ShareAsked() | ShareHeld():
                self._workers.take(group, message)
            case _:
                self._of_worker(group, message)

    def _detected(self, message: children.Detections) -> None:
        self._answers.answered(message)
        self._detections.publish(message)
        if message.stream in self._failing:
            self._failing.remove(message.stream)
            self._decide(children.InferenceFailed(message.stream, message.model, 0, ""))

    def _of_cache(self, group: str, message: children.CacheState | children.CacheDecided | children.MemoryKept) -> None:
        for notice in self._topics.say_cache(message, group):
            self._decide(notice)
        self._memory_check.told(message, time.monotonic(), group)
        if isinstance(message, children.MemoryKept):
            self._workers.leaked(group, message.bytes)
        if isinstance(message, children.CacheState) and self._state.orders.job is not None:
            self._decide(ModelsLoading(tuple(one.model for one in message.models)))

    def _of_worker(self, group: str, message: Message) -> None:
        """Handle messages about the worker process itself."""
        match message:
            case children.ThreadCrashed():
                _log.error("event=thread_crashed group=%s thread=%r detail=%r", group, message.thread, message.detail)
                self._metrics.crashed()
                self._decide(WorkerCrashed(f"{message.thread}: {message.detail}"))
            case children.ModelRuns():
                self._topics.hear_processor(message, group)
            case children.Hello():
                self._topics.say_versions(message.versions)
            case ChildUp():
                self._decide(WorkerUp(group))
            case ChildLost():
                detail = message.detail
                if reached := self._workers.lost(group):
                    detail = f"{reached}; {detail}"
                    _log.warning("event=wall_reached group=%s detail=%r", group, reached)
                self._tell_web(group)
                self._metrics.worker_lost()
                self._answers.worker_lost(self._streams_of(group))
                self._decide(WorkerLost(detail, group))
                self._memory_check.worker_lost(group)
                for notice in self._topics.say_no_cache(group):
                    self._decide(notice)

    def _streams_of(self, group: str) -> list[str]:
        return [id_ for line in self._state.lines_of(group) for id_ in self._state.streams_of(line.id)]
