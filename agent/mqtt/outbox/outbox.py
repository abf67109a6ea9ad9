"""Outbox of unacknowledged messages: in memory at first, on disk once the link is in doubt."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from agent.mqtt.alert_latch import OUTBOX_DAMAGED, OUTBOX_DISK, QUIET_S, AlertLatch
from agent.mqtt.link.connection import LoopLike
from agent.mqtt.link.graceful_disconnect import ExtraReader
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.class_queue import ClassQueue
from agent.mqtt.outbox.outbox_item import Kind, Move, OutboxItem, State
from agent.mqtt.outbox.sqlite_store import Bounds
from agent.mqtt.outbox.writer_thread import Done, Fetched, WriterAnswer, WriterThread

MEMORY_BYTES: Final = 4 * 2**20
"""Bound on messages in memory, and again on those queued for the disk."""
DOUBT_S: Final = 1.0
"""Time without an acknowledgement after which a message is written to disk."""
EVENT_DOUBT_S: Final = 0.1
"""The same time for events."""
LATE_S: Final = 5.0
"""Time for which answers count as late after one was, because a bad link is bad again soon."""
_FETCH: Final = 64
_HUNG_S: Final = 3.0
"""Time after which new messages no longer wait for a slow disk, at the cost of their order."""


def boottime_s() -> float:
    """Return the seconds of CLOCK_BOOTTIME, which counts suspended time and cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Trouble:
    """Fault of the outbox's file: why writes fail, or the damage of a file that was set aside; None without one."""

    unwritable: str | None = None
    damaged: str | None = None


class Outbox:
    """Queue of unacknowledged messages, bounded by bytes and age, and kept in a file where `path` is given.

    When it is full, the oldest detections are dropped first, then summaries, events last; `dropped` counts them.
    Messages of the kinds in `at_once` are written to disk immediately, others after a second without acknowledgement
    (events: 0.1 s) or when the connection is lost. Messages that cannot be written stay in memory, up to MEMORY_BYTES.
    A message is waiting or in flight; `acknowledged` ends it, and `back` requeues all in flight in order. For the
    loop's thread.
    """

    def __init__(
        self,
        bounds: Bounds,
        path: Path | None = None,
        *,
        at_once: frozenset[Kind] = frozenset(),
        clock: Callable[[], float] = boottime_s,
    ) -> None:
        self.trouble = Trouble()
        self.on_change: Callable[[], None] = lambda: None
        self.disk_answers: ExtraReader | None = None  # the writer thread's answers, for callers without the loop
        self._bounds: Final = bounds
        self._at_once: Final = at_once
        self._clock: Final = clock
        self._memory_bytes: Final = min(MEMORY_BYTES, bounds.max_bytes)
        self._answers: Final[SimpleQueue[WriterAnswer]] = SimpleQueue()
        self._writer: Final = WriterThread(path, bounds, self._answer) if path is not None else None
        self._queues: Final = {kind: ClassQueue(kind, has_disk=path is not None) for kind in Kind}
        self._number = 0
        self._dropped_there: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._oldest_on_disk_s: float | None = None
        self._is_hung = False
        self._late_until_s = 0.0
        self._when_written: Final[dict[int, Callable[[], None]]] = {}
        self._loop: LoopLike | None = None
        self._notices: AlertLatch | None = None
        self._wake = -1

    def start(self, loop: LoopLike) -> None:
        """Open the file on the writer thread; do nothing without a path. Disk faults are enqueued as Noticed events."""
        if self._writer is None or self._loop is not None:
            return
        self._loop = loop
        self._notices = AlertLatch(loop.put)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.register(self._wake, read=self._read_answers)
        self.disk_answers = ExtraReader(self._wake, self._read_answers)
        self._writer.start()

    def stop(self) -> None:
        """Write what is left and close the file; waits for a slow disk."""
        if self._writer is None or self._loop is None:
            return
        self.back()
        self.tick(is_in_doubt=True)
        is_over = self._writer.stop()
        self._loop.unregister(self._wake)
        self._loop = self.disk_answers = None
        if is_over:
            os.close(self._wake)

    @property
    def can_write(self) -> bool:
        """True where the disk accepts messages."""
        is_well = self.trouble.unwritable is None and not self._is_hung
        return self._loop is not None and is_well and self.queued_bytes < MEMORY_BYTES

    def depth(self, kind: Kind) -> int:
        """Return the number of unacknowledged messages of a kind."""
        return self._queues[kind].depth

    def dropped(self, kind: Kind) -> int:
        """Return the number of messages of a kind that were dropped since the agent started."""
        return self._queues[kind].dropped + self._dropped_there[kind]

    @property
    def answers_are_late(self) -> bool:
        """True where a message in flight had no answer for 1 s, and for 5 s afterwards."""
        return self._clock() < self._late_until_s

    @property
    def has_unsent(self) -> bool:
        """True where any message is not in flight."""
        return any(queue.unsent for queue in self._queues.values())

    @property
    def size_bytes(self) -> int:
        """Size of all messages."""
        return sum(queue.size_bytes for queue in self._queues.values())

    @property
    def waiting_bytes(self) -> int:
        """Size of messages that are in memory alone and not in flight."""
        return sum(queue.waiting_bytes for queue in self._queues.values())

    @property
    def queued_bytes(self) -> int:
        """Size of messages that are queued for the disk."""
        return sum(queue.queued_bytes for queue in self._queues.values())

    @property
    def disk_bytes(self) -> int:
        """Size of messages on disk."""
        return sum(queue.disk.size_bytes for queue in self._queues.values())

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest message; 0 without one."""
        known = [entry.kept_s for queue in self._queues.values() for entry in queue.oldest]
        if self._oldest_on_disk_s is not None:
            known.append(self._oldest_on_disk_s)
        return max(0.0, self._clock() - min(known)) if known else 0.0

    def keep(self, kind: Kind, message: OutgoingMessage) -> None:
        """Enqueue a message."""
        entry = self._add(kind, message)
        if kind in self._at_once:
            self._write_waiting(self._queues[kind], entry.kept_s)
        self._bound_memory()

    def track_in_flight(self, kind: Kind, message: OutgoingMessage) -> OutboxItem:
        """Track a message that is sent at once; `message` is what to send if it is requeued."""
        entry = self._add(kind, message)
        self._send(entry)
        return entry

    def track_in_flight_once_written(
        self, kind: Kind, message: OutgoingMessage, when_written: Callable[[], None]
    ) -> OutboxItem:
        """Track a message that is sent once it is on disk, or cannot be written; `when_written` is called then."""
        entry = self.track_in_flight(kind, message)
        self._when_written[entry.number] = when_written
        self._write(entry)
        return entry

    def next(self, kind: Kind, is_denied: Callable[[str], bool] = lambda _topic: False) -> OutboxItem | None:
        """Take the oldest message of a kind that may be sent; None without one, or while it is being read from disk.

        A message waits for the answer to the one before it on its topic, so that none overtakes a refused one. Those of
        denied topics are skipped. `on_change` is called once more messages were read from disk.
        """
        queue = self._queues[kind]
        entry = queue.next(is_denied)
        while entry is None and (too_many := queue.overflow) is not None:
            # dropped, because acks and alerts on other topics must pass
            self._send(too_many)
            self.acknowledged(too_many)
            queue.dropped += 1
            entry = queue.next(is_denied)
        if self._writer is not None and self._loop is not None and queue.wants_more:
            queue.ask(self._clock())
            self._writer.fetch(kind, queue.cursor, _FETCH, queue.asked)
        if entry is not None:
            self._send(entry)
        return entry

    def acknowledged(self, entry: OutboxItem) -> None:
        """Remove an acknowledged message; one that was requeued meanwhile is sent again."""
        self._when_written.pop(entry.number, None)
        if not entry.is_in_flight:
            return
        is_on_disk = entry.state is not State.SENT and self._writer is not None and self._writer.forget(entry)
        self._queues[entry.kind].move(entry, Move.DELETE if is_on_disk else Move.END)

    def release(self, entry: OutboxItem) -> None:
        """Requeue one message in flight."""
        self._when_written.pop(entry.number, None)
        if entry.is_in_flight:
            self._queues[entry.kind].release(entry)

    def back(self) -> None:
        """Requeue every message in flight, because its connection is gone."""
        self._when_written.clear()
        for queue in self._queues.values():
            queue.back()
        self._bound_memory()

    def secure(self) -> None:
        """Write every message to disk that is in memory alone, because the link is in doubt."""
        for queue in self._queues.values():
            self._write_waiting(queue, self._clock())
            self._write_in_flight(queue, self._clock())

    def tick(self, *, is_in_doubt: bool) -> None:
        """Write messages to disk, but only those unacknowledged for a while unless `is_in_doubt`; drop expired ones.

        Must be called each 0.5 s.
        """
        now_s = self._clock()
        hung = [queue.look(now_s - _HUNG_S) for queue in self._queues.values()]
        self._is_hung = any(hung)
        if self._writer is not None and self._loop is not None and not self._writer.is_running:
            self._writer_is_gone()
        for kind, queue in self._queues.items():
            doubt_s = 0.0 if is_in_doubt else EVENT_DOUBT_S if kind is Kind.EVENT else DOUBT_S
            self._write_waiting(queue, now_s if kind in self._at_once else now_s - doubt_s)
            self._write_in_flight(queue, now_s - doubt_s)
            if any(entry.sent_s <= now_s - DOUBT_S for entry in queue.in_flight):
                self._late_until_s = now_s + LATE_S
            while (entry := queue.oldest_waiting) is not None and entry.kept_s < now_s - self._bounds.max_age_s:
                self._drop(entry)
        self._bound_memory()
        if self._notices is not None:
            _tell_trouble(self.trouble, self._notices)

    def _add(self, kind: Kind, message: OutgoingMessage) -> OutboxItem:
        self._number += 1
        entry = OutboxItem(self._number, kind, message, self._clock())
        self._queues[kind].add(entry)
        return entry

    def _send(self, entry: OutboxItem) -> None:
        entry.sent_s = self._clock()
        self._queues[entry.kind].move(entry, Move.SEND)

    def _write_waiting(self, queue: ClassQueue, up_to_s: float) -> None:
        while self.can_write and (entry := queue.oldest_waiting) is not None and entry.kept_s <= up_to_s:
            self._write(entry)

    def _write_in_flight(self, queue: ClassQueue, up_to_s: float) -> None:
        for entry in queue.in_flight[:]:
            if entry.state is State.SENT and entry.kept_s <= up_to_s:
                self._write(entry)

    def _write(self, entry: OutboxItem) -> None:
        if self._writer is not None and self.can_write:
            entry.queued_s = self._clock()
            self._queues[entry.kind].move(entry, Move.WRITE)
            self._writer.write(entry)

    def _drop(self, entry: OutboxItem) -> None:
        queue = self._queues[entry.kind]
        queue.move(entry, Move.END)
        queue.dropped += 1

    def _bound_memory(self) -> None:
        over_bytes = self.waiting_bytes - self._memory_bytes
        for kind in reversed(Kind):
            while over_bytes > 0 and (entry := self._queues[kind].oldest_waiting) is not None:
                over_bytes -= entry.size_bytes
                self._drop(entry)

    # answers of the writer thread

    def _writer_is_gone(self) -> None:
        # first, because what it wrote before it ended is on disk
        self._take_answers()
        self.trouble = Trouble("the thread that writes it has ended", self.trouble.damaged)
        for queue in self._queues.values():
            queue.give_up_writing()

    def _answer(self, answer: WriterAnswer) -> None:
        self._answers.put(answer)
        os.eventfd_write(self._wake, 1)

    def _read_answers(self) -> None:
        os.eventfd_read(self._wake)
        self._take_answers()
        self.on_change()

    def _take_answers(self) -> None:
        while True:
            try:
                answer = self._answers.get_nowait()
            except Empty:
                break
            match answer:
                case Fetched():
                    self._queues[answer.kind].fetched(answer)
                case Done():
                    self._done(answer)

    def _done(self, done: Done) -> None:
        state = done.state
        for entry in done.entries:
            if done.failed:
                self._queues[entry.kind].move(entry, Move.FAILED)
            else:
                self._queues[entry.kind].written(entry)
        for kind, numbers in done.forgotten.items():
            self._queues[kind].forgotten(numbers)
        for kind, total in state.totals.items():
            self._queues[kind].disk = total
        self._dropped_there.update(state.dropped)
        self._oldest_on_disk_s = state.oldest_kept_s
        self._note_trouble(done)
        for entry in done.entries:
            if (when_written := self._when_written.pop(entry.number, None)) is not None:
                when_written()
        self._bound_memory()

    def _note_trouble(self, done: Done) -> None:
        before = self.trouble.unwritable
        self.trouble = Trouble(done.state.trouble if done.failed else None, done.state.damaged)
        if before is not None and not done.failed:
            for queue in self._queues.values():
                queue.read_anew()


def _tell_trouble(trouble: Trouble, notices: AlertLatch) -> None:
    if trouble.unwritable is not None:
        notices.on(OUTBOX_DISK, trouble.unwritable)
    else:
        notices.off(OUTBOX_DISK, QUIET_S)
    if trouble.damaged is not None:
        notices.on(OUTBOX_DAMAGED, trouble.damaged)
