"""The messages of one class that the broker has not acknowledged: in memory, on disk, and on the wire."""

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
    """Knows where each message is; decides nothing.

    `waiting` ones are in memory alone. `writing` ones were handed to the keeper, and are on disk soon. `ahead` were
    read from the disk, to be sent next. `taken` are on the wire, or about to be. The rest is on disk.
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
        """How many are not acknowledged."""
        taken = sum(not entry.written for entry in self.taken.values())
        return len(self.waiting) + len(self.writing) + taken + max(0, self.disk.count - len(self._deleting))

    @property
    def unsent(self) -> int:
        """How many of them are not on the wire."""
        return max(0, self.depth - len(self.taken))

    @property
    def size_bytes(self) -> int:
        """What they take."""
        known = [*self.writing.values(), *self.taken.values()]
        return self.waiting_bytes + sum(one.size_bytes for one in known if not one.written) + self.disk.size_bytes

    @property
    def wants_more(self) -> bool:
        """Whether the disk may hold what was not read yet."""
        return not self._is_read and not self.is_asking

    def wait(self, entry: OutboxItem) -> None:
        """Keep a message in memory; its number is greater than all before it."""
        self.waiting.append(entry)
        self.waiting_bytes += entry.size_bytes

    def next(self) -> OutboxItem | None:
        """Take the oldest message that can be sent now; what is on disk and not read yet comes before newer ones."""
        if self.ahead and (not self.waiting or self.ahead[0].number < self.waiting[0].number):
            entry = self.ahead.pop(0)
        elif self.waiting and (self._is_hung or self._is_next()):
            entry = self.drop_oldest()
        else:
            return None
        self.taken[entry.number] = entry
        return entry

    def drop_oldest(self) -> OutboxItem:
        """Take the oldest out of memory."""
        entry = self.waiting.popleft()
        self.waiting_bytes -= entry.size_bytes
        return entry

    def release(self, entry: OutboxItem) -> None:
        """Let a taken message wait again."""
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
        """Let all taken ones wait again, and read the disk anew."""
        taken = sorted(self.taken.values(), key=_NUMBER)
        self.taken.clear()
        self._merge([entry for entry in taken if not entry.handed])
        self.writing.update({entry.number: entry for entry in taken if entry.handed and not entry.written})
        self.read_anew()

    def read_anew(self) -> None:
        """Begin at the oldest on disk again; what is asked for just now is for nothing."""
        self.ahead.clear()
        self.asked += 1
        self.is_asking = False
        self.cursor = _BEFORE_ALL
        self._is_read = not self._has_disk

    def forget(self, entry: OutboxItem, *, from_disk: bool) -> None:
        """Note that it arrived; `from_disk`: the keeper was told to take it from there."""
        self.taken.pop(entry.number, None)
        if from_disk:
            self._deleting.add(entry.number)

    def written(self, entry: OutboxItem) -> None:
        """Note that a message is on disk; it leaves the memory, unless it is on the wire."""
        entry.written = True
        if self.writing.pop(entry.number, None) is None:
            return
        if entry.number < self.cursor:
            self.read_anew()
        self._is_read = False

    def unwritten(self, entry: OutboxItem) -> None:
        """Note that a message did not come on disk."""
        entry.handed = False
        if self.writing.pop(entry.number, None) is not None:
            self._merge([entry])

    def forgotten(self, numbers: Iterable[int]) -> None:
        """Note what is gone from the disk."""
        self._deleting.difference_update(numbers)

    def look(self, late_s: float) -> bool:
        """Return whether the disk owes an answer since before `late_s`; then what is in memory waits for it no more."""
        first = next(iter(self.writing.values()), None)
        is_asking = self.is_asking and self.asked_s < late_s
        self._is_hung = is_asking or (first is not None and first.handed_s < late_s)
        return self._is_hung

    def fetched(self, answer: Fetched) -> None:
        """Take what was read."""
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
        """Whether nothing on disk, or on its way there, is older than what waits."""
        number = self.waiting[0].number
        return (self._is_read or number <= self.cursor) and (not self.writing or min(self.writing) > number)

    def _merge(self, entries: list[OutboxItem]) -> None:
        self.waiting = deque(merge(entries, self.waiting, key=_NUMBER))
        self.waiting_bytes += sum(entry.size_bytes for entry in entries)
