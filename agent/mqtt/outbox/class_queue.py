"""Queue of one class of unacknowledged messages: in memory, on disk and in flight."""

from bisect import insort
from collections import deque
from collections.abc import Iterable
from heapq import merge
from operator import attrgetter
from typing import Final

from agent.mqtt.outbox.outbox_item import OutboxItem
from agent.mqtt.outbox.sqlite_store import Total
from agent.mqtt.outbox.writer_thread import Fetched

_NUMBER: Final = attrgetter("number")
_BEFORE_ALL: Final = -(2**62)


class ClassQueue:
    """Location of each message of one class; it makes no decisions.

    `waiting` ones are in memory alone; `writing` ones are queued for the disk; `ahead` ones were read from the disk to
    be sent next; `taken` ones are in flight. The rest is on disk.
    """

    def __init__(self, *, has_disk: bool) -> None:
        self.waiting: deque[OutboxItem] = deque()
        self.writing: Final[dict[int, OutboxItem]] = {}
        self.ahead: Final[list[OutboxItem]] = []
        self.taken: Final[dict[int, OutboxItem]] = {}
        self.disk = Total()
        self.asked = 0
        self.is_asking = False
        self.asked_s = 0.0
        self.cursor = _BEFORE_ALL
        self.waiting_bytes = 0
        self._deleting: Final[set[int]] = set()
        self._has_disk: Final = has_disk
        self._is_hung = False
        self._is_read = not has_disk

    @property
    def depth(self) -> int:
        """Number of unacknowledged messages."""
        taken = sum(not entry.written for entry in self.taken.values())
        return len(self.waiting) + len(self.writing) + taken + max(0, self.disk.count - len(self._deleting))

    @property
    def unsent(self) -> int:
        """Number of messages that are not in flight."""
        return max(0, self.depth - len(self.taken))

    @property
    def size_bytes(self) -> int:
        """Size of all messages."""
        known = [*self.writing.values(), *self.taken.values()]
        return self.waiting_bytes + sum(one.size_bytes for one in known if not one.written) + self.disk.size_bytes

    @property
    def wants_more(self) -> bool:
        """True where the disk may hold unread messages."""
        return not self._is_read and not self.is_asking

    def wait(self, entry: OutboxItem) -> None:
        """Enqueue a message in memory; its number is greater than all before it."""
        self.waiting.append(entry)
        self.waiting_bytes += entry.size_bytes

    def next(self) -> OutboxItem | None:
        """Take the oldest sendable message; unread ones on disk precede newer ones in memory."""
        if self.ahead and (not self.waiting or self.ahead[0].number < self.waiting[0].number):
            entry = self.ahead.pop(0)
        elif self.waiting and (self._is_hung or self._is_next()):
            entry = self.drop_oldest()
        else:
            return None
        self.taken[entry.number] = entry
        return entry

    def drop_oldest(self) -> OutboxItem:
        """Remove the oldest message from memory."""
        entry = self.waiting.popleft()
        self.waiting_bytes -= entry.size_bytes
        return entry

    def release(self, entry: OutboxItem) -> None:
        """Requeue a message in flight."""
        if self.taken.pop(entry.number, None) is None:
            return
        if not entry.handed:
            self._merge([entry])
        elif not entry.written:
            self.writing[entry.number] = entry
        elif entry.number <= self.cursor:
            insort(self.ahead, entry, key=_NUMBER)
        else:
            self._is_read = False

    def back(self) -> None:
        """Requeue all messages in flight, and read the disk again."""
        taken = sorted(self.taken.values(), key=_NUMBER)
        self.taken.clear()
        self._merge([entry for entry in taken if not entry.handed])
        self.writing.update({entry.number: entry for entry in taken if entry.handed and not entry.written})
        self.read_anew()

    def read_anew(self) -> None:
        """Read the disk from its oldest message; a pending answer becomes void."""
        self.ahead.clear()
        self.asked += 1
        self.is_asking = False
        self.cursor = _BEFORE_ALL
        self._is_read = not self._has_disk

    def forget(self, entry: OutboxItem, *, from_disk: bool) -> None:
        """Remove an acknowledged message; `from_disk`: the writer thread deletes it there."""
        self.taken.pop(entry.number, None)
        if from_disk:
            self._deleting.add(entry.number)

    def written(self, entry: OutboxItem) -> None:
        """Record that a message is on disk; it leaves memory, unless it is in flight."""
        entry.written = True
        if self.writing.pop(entry.number, None) is None:
            return
        if entry.number < self.cursor:
            self.read_anew()
        self._is_read = False

    def unwritten(self, entry: OutboxItem) -> None:
        """Record that a message could not be written."""
        entry.handed = False
        if self.writing.pop(entry.number, None) is not None:
            self._merge([entry])

    def forgotten(self, numbers: Iterable[int]) -> None:
        """Record messages deleted from the disk."""
        self._deleting.difference_update(numbers)

    def look(self, late_s: float) -> bool:
        """Return True where the disk has owed an answer since `late_s`; memory then waits for it no more."""
        first = next(iter(self.writing.values()), None)
        is_asking = self.is_asking and self.asked_s < late_s
        self._is_hung = is_asking or (first is not None and first.handed_s < late_s)
        return self._is_hung

    def fetched(self, answer: Fetched) -> None:
        """Add messages read from the disk."""
        if answer.asked != self.asked:
            return
        self.is_asking = False
        self._is_read = answer.is_end
        if answer.entries:
            self.cursor = answer.entries[-1].number
        self.ahead.extend(
            entry for entry in answer.entries if entry.number not in self.taken and entry.number not in self._deleting
        )

    def _is_next(self) -> bool:
        """Return True where nothing on disk, or queued for it, is older than the first in memory."""
        number = self.waiting[0].number
        return (self._is_read or number <= self.cursor) and (not self.writing or min(self.writing) > number)

    def _merge(self, entries: list[OutboxItem]) -> None:
        self.waiting = deque(merge(entries, self.waiting, key=_NUMBER))
        self.waiting_bytes += sum(entry.size_bytes for entry in entries)
