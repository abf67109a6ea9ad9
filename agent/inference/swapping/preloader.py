"""Preloads announced models, and reserves them for their line until the announcement ends."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.inference.memory.admission import NoRoomError
from agent.inference.memory.cache_entry import candidates_claim
from agent.inference.preparing.background_builder import BuildHinderedError
from agent.inference.swapping.load_job import DroppedError, Failure, LoadJob
from agent.inference.swapping.load_queue import LoadQueue
from agent.inference.swapping.turn_thread import TurnThread
from agent.messages.children import Message, Prepare, Prepared, PrepareFailed
from agent.messages.errors import ModelError, OutOfMemoryError, Reason
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)
_MOST_A_LINE: Final = 8
"""Waiting announcements of a line; a ninth supersedes the oldest."""


@dataclass(frozen=True)
class _Announcement:
    message: Prepare
    end_s: float
    """End of the announcement (monotonic, s), less the time for which the job waits for an artifact."""
    job: LoadJob

    @property
    def holder(self) -> str:
        """Name of its reservation."""
        return _holder(self.message)

    @property
    def until_s(self) -> float:
        return self.end_s + self.job.waited_s

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until_s


class Preloader:
    """Preloader of announced models, which answers each Prepare once. Owner: the worker.

    Models that a line waits for are loaded first. A reservation starts when its model is resident; from then on the
    cache keeps it.

    Threading: `prepare` may be called from any thread. The load queue's `turn` guards the announcements that arrive.
    """

    def __init__(self, loads: LoadQueue, send: Callable[[Message], None]) -> None:
        self._loads: Final = loads
        self._send: Final = send
        self._arrived: Final[list[tuple[Prepare, float]]] = []
        self._pending: Final[list[_Announcement]] = []
        self._thread: Final = TurnThread("preloader", loads.turn, self._step)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; announcements in progress stay unanswered."""
        self._thread.stop()

    def prepare(self, message: Prepare) -> None:
        """Enqueue an announcement; returns at once. Its `hold_s` counts from this call."""
        with self._loads.turn:
            self._arrived.append((message, time.monotonic()))
            self._loads.turn.notify_all()

    def _step(self) -> None:
        """Wait for announcements and for finished loads, and answer them."""
        first_s = min((one.until_s for one in self._pending), default=None)
        with self._loads.turn:
            self._loads.turn.wait_for(self._has_news, None if first_s is None else max(0.0, first_s - time.monotonic()))
            arrived, self._arrived[:] = list(self._arrived), []
        if self._thread.is_stopping:
            return
        for message, at_s in arrived:
            self._take(message, at_s)
        self._answer_ended()

    def _has_news(self) -> bool:
        return self._thread.is_stopping or bool(self._arrived) or any(one.job.is_done for one in self._pending)

    def _take(self, message: Prepare, at_s: float) -> None:
        of_line = [one for one in self._pending if one.message.line == message.line]
        if len(of_line) >= _MOST_A_LINE:
            self._give_up(of_line[0], "superseded", "newer announcements came")
        try:
            until_s = at_s + message.hold_s
            job = self._loads.announce(message.model, _holder(message), until_s, at_s + message.artifact_s)
        except (ModelError, OutOfMemoryError) as error:
            self._failed(message, error)
            return
        if job is None:
            self._send(Prepared(message.line, message.number, message.model.reference))
            return
        read_ahead(message.model)
        self._pending.append(_Announcement(message, until_s - job.waited_s, job))

    def _answer_ended(self) -> None:
        for one in list(self._pending):
            message, job = one.message, one.job
            if job.entry is not None:
                self._pending.remove(one)
                self._send(Prepared(message.line, message.number, message.model.reference))
            elif job.failure is not None and not isinstance(job.failure, DroppedError):
                self._pending.remove(one)
                self._failed(message, job.failure)
            elif job.failure is not None or one.is_over:
                self._give_up(one, "timeout", f"{message.model.reference} was not loaded within {message.hold_s:g} s")

    def _give_up(self, one: _Announcement, reason: Reason, detail: str) -> None:
        self._pending.remove(one)
        if not any(other.job is one.job and other.holder == one.holder for other in self._pending):
            self._loads.retract(one.job, one.holder)
        self._send(PrepareFailed(one.message.line, one.message.number, one.message.model.reference, reason, detail))

    def _failed(self, message: Prepare, failure: Failure) -> None:
        reference, reason = message.model.reference, failure.reason
        may_fit = failure.may_fit if isinstance(failure, NoRoomError) else isinstance(failure, BuildHinderedError)
        self._send(PrepareFailed(message.line, message.number, reference, reason, str(failure), may_fit))


def _holder(message: Prepare) -> str:
    return candidates_claim(message.line) if message.is_candidate else message.line


def read_ahead(version: ModelVersion) -> None:
    """Ask the kernel to read a model's files into its page cache before the load; returns at once."""
    path = Path(version.path)
    for file in (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # because the load reports the missing file
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError as error:
            _LOG.debug("event=no_read_ahead file=%s error=%r", file, error)
        finally:
            os.close(descriptor)
