"""The download of one file: resumed over cuts and restarts, hashed while it is written, bounded in every direction."""

import errno
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from agent.messages.errors import ModelError
from agent.models.keeping.room import NoRoomError, Room
from agent.processes.backoff import Backoff
from agent.supply.bounds.job import Job
from agent.supply.errors import SourceError
from agent.supply.transfer.opened import Opened
from agent.supply.transfer.pace import Pace
from agent.supply.transfer.part import Part
from agent.supply.transfer.pump import Pump
from agent.supply.wanted import Wanted

Source = Callable[[int, str], AbstractContextManager[Opened]]
"""Opens the file at an offset, if its content is still that of a tag; else at 0."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a limit that leaves no room for a further byte."""


class Download:
    """Downloads one file into its part; `run` returns when all of it is there and has the wanted sha256."""

    def __init__(  # noqa: PLR0913 - each is one bound of it
        self, wanted: Wanted, part: Part, source: Source, *, room: Room, pace: Pace, job: Job
    ) -> None:
        self._wanted: Final = wanted
        self._part: Final = part
        self._source: Final = source
        self._room: Final = room
        self._pace: Final = pace
        self._job: Final = job
        self._restarts = 0
        self._pieces = 0
        self._expected_bytes = 0

    def run(self) -> None:
        """Fetch what is missing of the open part, and flush it.

        Raises SourceError or NoRoomError where a retry may help, and ModelError where it cannot; a part that went wrong
        is cleared.
        """
        part = self._part
        self._job.resume(part.offset)
        self._pieces = 1 if part.offset else 0
        try:
            self._transfer()
            part.flush()
        except OSError as error:
            part.clear()
            if error.errno not in FULL:
                raise
            raise NoRoomError(f"{part.path.parent}: {(error.strerror or str(error)).lower()}") from None
        except (ModelError, NoRoomError):
            part.clear()
            raise

    def _transfer(self) -> None:
        backoff = Backoff(cap_s=self._pace.backoff_s)
        fruitless = 0
        while not self._is_whole():
            before = self._part.offset
            try:
                self._attempt()
            except SourceError as error:
                fruitless = 0 if self._is_gain(error, self._part.offset - before) else fruitless + 1
                if error.reason == "timeout" or fruitless >= self._pace.fruitless:
                    raise
                if not fruitless:
                    backoff.reset()
                self._job.pause(backoff.next_s())

    def _is_gain(self, error: SourceError, gained_bytes: int) -> bool:
        """Return True for an attempt that came forward; a source that hung counts only where it did not drip before."""
        least_bytes = self._pace.slowest_bytes_s * self._pace.slow_s if error.reason == "source_hung" else 0
        return gained_bytes > least_bytes

    def _is_whole(self) -> bool:
        """Return True where all bytes are there and right. Raises ModelError where all are there and wrong."""
        part = self._part
        if part.size is None or part.offset != part.size:
            return False
        if part.sha256 == self._wanted.sha256:
            return True
        # A loss of power, or a server that names no version, can join what does not belong together.
        if self._pieces > 1:
            self._begin_again()
            return False
        what = f"found sha256 {part.sha256}, expected {self._wanted.sha256} as in the catalog"
        raise ModelError("hash_mismatch", f"{self._wanted.reference}: {what}")

    def _begin_again(self) -> None:
        self._restarts += 1
        if self._restarts > self._pace.restarts:
            what = "the file changes again and again while it is read"
            raise ModelError("source_refused", f"{self._wanted.reference}: {what}")
        self._job.resume(-self._part.offset)
        self._part.clear()
        self._pieces = 0

    def _attempt(self) -> None:
        part = self._part
        offset, tag = part.offset, part.tag
        self._job.open()
        with Pump(lambda: self._source(offset, tag), self._pace.stall_s) as pump:
            head = pump.head()
            self._begin(head)
            self._pieces += 1
            self._take(pump)
        if part.size is None:
            if part.sha256 != self._wanted.sha256:
                raise SourceError("cut_off", f"{self._wanted.reference}: its end came after {part.offset} bytes")
            part.begin(part.offset, head.tag, head.name)
        elif part.offset != part.size:
            raise SourceError("cut_off", f"{self._wanted.reference}: {part.offset} of {part.size} bytes came")

    def _begin(self, head: Opened) -> None:
        if head.offset != self._part.offset:
            self._begin_again()
        if head.size is not None:
            self._job.expect(head.size - self._expected_bytes)
            self._expected_bytes = head.size
            self._room.require(head.size - head.offset)
        self._part.begin(head.size, head.tag, head.name)

    def _take(self, pump: Pump) -> None:
        waited_s, taken_bytes, unsynced_bytes = 0.0, 0, 0
        asked_s = time.monotonic()
        for chunk in pump.chunks():
            waited_s += time.monotonic() - asked_s
            self._append(chunk)
            taken_bytes += len(chunk)
            unsynced_bytes += len(chunk)
            if unsynced_bytes >= self._pace.sync_bytes:
                self._part.flush()
                unsynced_bytes = 0
            if waited_s > self._pace.slow_s:
                self._require_speed(taken_bytes, waited_s)
                waited_s, taken_bytes = 0.0, 0
            asked_s = time.monotonic()

    def _append(self, chunk: bytes) -> None:
        part = self._part
        if part.size is not None and part.offset + len(chunk) > part.size:
            what = f"more than the promised {part.size} bytes came"
            raise ModelError("source_refused", f"{self._wanted.reference}: {what}")
        self._room.grow(len(chunk))
        part.write(chunk)
        self._job.receive(len(chunk))

    def _require_speed(self, taken_bytes: int, waited_s: float) -> None:
        if taken_bytes < self._pace.slowest_bytes_s * waited_s:
            what = f"only {taken_bytes} bytes came in {waited_s:.0f} s"
            raise SourceError("source_hung", f"{self._wanted.reference}: {what}")
