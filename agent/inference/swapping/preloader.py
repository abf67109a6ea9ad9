"""Models that are announced: loaded beside what serves, and kept for their line until their time is over."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.inference.swapping.load_job import DroppedError, Failure, LoadJob
from agent.inference.swapping.load_queue import LoadQueue
from agent.messages.children import Message, Prepare, Prepared, PrepareFailed
from agent.messages.errors import ModelError, Reason
from agent.messages.references import ModelVersion
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_A_LINE: Final = 8  # announcements that wait; the oldest of a line gives way to a ninth


@dataclass(frozen=True)
class _Announcement:
    message: Prepare
    until_s: float
    job: LoadJob

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until_s


class Preloader:
    """The thread that answers each Prepare once. Owner: the worker.

    It loads nothing itself: the loader does, after everything that a line waits for. A reservation begins when its
    model is resident; from then on it is the ledger's.
    """

    def __init__(self, loader: LoadQueue, send: Callable[[Message], None]) -> None:
        self._loader: Final = loader
        self._send: Final = send
        self._arrived: Final[list[tuple[Prepare, float]]] = []
        self._pending: list[_Announcement] = []
        self._stopping = False
        self._thread: Final = RestartedThread(self._run, "reserver")

    def start(self) -> None:
        """Begin to take announcements."""
        self._thread.start()

    def stop(self) -> None:
        """Leave what is in progress, and end."""
        with self._loader.turn:
            self._stopping = True
            self._loader.turn.notify_all()
        self._thread.join()

    def prepare(self, message: Prepare) -> None:
        """Take an announcement, from any thread; returns at once. `hold_s` counts from here."""
        with self._loader.turn:
            self._arrived.append((message, time.monotonic() + message.hold_s))
            self._loader.turn.notify_all()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except Exception:  # noqa: BLE001, PERF203 - the loop must outlive whatever one announcement does
                _LOG.exception("announcements")

    def _step(self) -> None:
        with self._loader.turn:
            if self._pending:
                self._loader.wait(self._has_news)
            else:
                self._loader.turn.wait_for(self._has_news)
            arrived, self._arrived[:] = list(self._arrived), []
        for message, until_s in arrived:
            self._take(message, until_s)
        self._answer_ended()

    def _has_news(self) -> bool:
        return self._stopping or bool(self._arrived) or any(one.job.is_done or one.is_over for one in self._pending)

    def _take(self, message: Prepare, until_s: float) -> None:
        of_line = [one for one in self._pending if one.message.line == message.line]
        if len(of_line) >= _A_LINE:
            self._give_up(of_line[0], "superseded", "newer announcements came")
        try:
            job = self._loader.announce(message.model, message.line, until_s)
        except ModelError as error:
            self._failed(message, error)
            return
        if job is None:
            self._send(Prepared(message.line, message.number, message.model.reference))
            return
        read_ahead(message.model)
        self._pending.append(_Announcement(message, until_s, job))

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
        if not any(other.job is one.job and other.message.line == one.message.line for other in self._pending):
            self._loader.retract(one.job, one.message.line)
        self._send(PrepareFailed(one.message.line, one.message.number, one.message.model.reference, reason, detail))

    def _failed(self, message: Prepare, failure: Failure) -> None:
        reference, reason = message.model.reference, failure.reason
        self._send(PrepareFailed(message.line, message.number, reference, reason, str(failure)))


def read_ahead(version: ModelVersion) -> None:
    """Have the kernel read a model's files while its load waits for its turn, or for room; returns at once."""
    path = Path(version.path)
    for file in (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # the load says so, with a reason
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError as error:
            _LOG.debug("no reading ahead of %s: %s", file, error)
        finally:
            os.close(descriptor)
