"""Queue of the unacknowledged messages of one kind (such as events): in memory, on disk and in flight."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import takewhile
from operator import attrgetter
from typing import Final

from agent.mqtt.outbox.outbox_item import MOVES, Kind, Move, OutboxItem, State
from agent.mqtt.outbox.sqlite_store import Total
from agent.mqtt.outbox.writer_thread import Fetched

_NUMBER: Final = attrgetter("number")
_BEFORE_ALL: Final = -(2**62)
_DENIED_LIMIT: Final = 256
"""Limit of messages of denied topics that are skipped; beyond it events are dropped, and other kinds wait."""
_READ_AHEAD: Final = 32
_UNWRITTEN: Final = (State.WAITING, State.QUEUED, State.SENT, State.SENT_QUEUED)


class ClassQueue:
    """State of each message of one kind; only `move` changes it.

    Messages in the state STORED are on disk alone; all others are held in memory here.
    """

    def __init__(self, kind: Kind, *, has_disk: bool) -> None:
        self.disk = Total()
        self.asked = 0
        self.asked_s = 0.0
        self.cursor = _BEFORE_ALL
        """Number of the last message that was read from the disk."""
        self.dropped = 0
        self.in_flight: Final[list[OutboxItem]] = []
        self._kind: Final = kind
        self._has_disk: Final = has_disk
        self._sendable: Final[list[OutboxItem]] = []
        self._queued: Final[list[OutboxItem]] = []
        self._known: Final[dict[int, OutboxItem]] = {}
        self._counts: Final[Counter[State]] = Counter()
        self._bytes: Final[Counter[State]] = Counter()
        self._lists: Final = {
            State.WAITING: self._sendable,
            State.READ: self._sendable,
            State.QUEUED: self._queued,
            State.SENT: self.in_flight,
            State.SENT_QUEUED: self.in_flight,
            State.SENT_STORED: self.in_flight,
        }
        self._passed_over = 0
        self._is_asking = False
        self._is_hung = False
        self._is_read = not has_disk

    @property
    def depth(self) -> int:
        """Number of unacknowledged messages."""
        stored = max(0, self.disk.count - self._counts[State.DELETING])
        return sum(self._counts[state] for state in _UNWRITTEN) + stored

    @property
    def unsent(self) -> int:
        """Number of messages that are not in flight."""
        return max(0, self.depth - len(self.in_flight))

    @property
    def size_bytes(self) -> int:
        """Size of all messages."""
        return sum(self._bytes[state] for state in _UNWRITTEN) + self.disk.size_bytes

    @property
    def waiting_bytes(self) -> int:
        """Size of messages that are in memory alone and not in flight."""
        return self._bytes[State.WAITING]

    @property
    def queued_bytes(self) -> int:
        """Size of messages that are queued for the disk."""
        return self._bytes[State.QUEUED] + self._bytes[State.SENT_QUEUED]

    @property
    def oldest_waiting(self) -> OutboxItem | None:
        """The oldest message that is in memory alone and not in flight."""
        if not self._counts[State.WAITING]:
            return None
        return next(entry for entry in self._sendable if entry.state is State.WAITING)

    @property
    def oldest(self) -> list[OutboxItem]:
        """The oldest message to be sent and the oldest one in flight, where there are any."""
        return [*self._sendable[:1], *self.in_flight[:1]]

    @property
    def wants_more(self) -> bool:
        """True where the disk should be read."""
        return not (self._is_read or self._is_asking) and self._counts[State.READ] < _READ_AHEAD + self._passed_over

    def add(self, entry: OutboxItem) -> None:
        """Enqueue a message that is in memory alone."""
        self._known[entry.number] = entry
        self._enter(entry, State.WAITING)

    def move(self, entry: OutboxItem, *moves: Move) -> None:
        """Change a message's state, by one move or by several at once."""
        state = entry.state
        self._counts[state] -= 1
        self._bytes[state] -= entry.size_bytes
        if (before := self._lists.get(state)) is not None:
            del before[bisect_left(before, entry.number, key=_NUMBER)]
        for move in moves:
            state = MOVES[state, move]
        self._enter(entry, state)

    def next(self, is_denied: Callable[[str], bool]) -> OutboxItem | None:
        """Return the oldest message that may be sent; None without one.

        Order is kept within a topic: nothing overtakes a message that is unanswered, unread or being written. Messages
        of denied topics are skipped.
        """
        self._passed_over = 0
        for entry in self._sendable:
            if is_denied(entry.message.topic):
                self._passed_over += 1
                if self._passed_over < _DENIED_LIMIT:
                    continue
                return None
            return entry if self._is_next(entry) else None
        return None

    @property
    def overflow(self) -> OutboxItem | None:
        """The event to drop because too many events of denied topics were skipped; None without one."""
        is_full = self._kind is Kind.EVENT and self._passed_over >= _DENIED_LIMIT
        return self._sendable[0] if is_full else None

    def ask(self, now_s: float) -> None:
        """Record that a read from the disk was requested."""
        self._is_asking, self.asked_s = True, now_s

    def fetched(self, answer: Fetched) -> None:
        """Add messages read from the disk."""
        if answer.asked != self.asked:
            return
        self._is_asking = False
        self._is_read = answer.is_end
        if answer.entries:
            self.cursor = answer.entries[-1].number
        for entry in answer.entries:
            if entry.number not in self._known:
                self._known[entry.number] = entry
                self._enter(entry, MOVES[entry.state, Move.READ])

    def release(self, entry: OutboxItem) -> None:
        """Requeue a message in flight."""
        if entry.state is State.SENT_STORED and entry.number <= self.cursor:
            self.move(entry, Move.RETURN, Move.READ)
            return
        self.move(entry, Move.RETURN)
        if entry.state is State.STORED:
            self._is_read = False

    def back(self) -> None:
        """Requeue all messages in flight, and read the disk again."""
        for entry in self.in_flight[:]:
            self.move(entry, Move.RETURN)
        self.read_anew()

    def read_anew(self) -> None:
        """Read the disk from its oldest message again; an answer that is still pending is ignored."""
        for entry in self._sendable[:]:
            if entry.state is State.READ:
                self.move(entry, Move.RETURN)
        self.asked += 1
        self._is_asking = False
        self.cursor = _BEFORE_ALL
        self._is_read = not self._has_disk

    def written(self, entry: OutboxItem) -> None:
        """Record that a message is on disk; it leaves memory, unless it is in flight."""
        self.move(entry, Move.WRITTEN)
        if entry.state is State.STORED:
            if entry.number < self.cursor:
                self.read_anew()
            self._is_read = False

    def forgotten(self, numbers: Iterable[int]) -> None:
        """Record messages deleted from the disk."""
        for number in numbers:
            entry = self._known.get(number)
            if entry is not None and entry.state is State.DELETING:
                self.move(entry, Move.END)

    def give_up_writing(self) -> None:
        """Return messages that are queued for the disk to memory alone, because nobody writes them."""
        for entry in [*self._queued, *self.in_flight]:
            if entry.state in {State.QUEUED, State.SENT_QUEUED}:
                self.move(entry, Move.FAILED)

    def look(self, late_s: float) -> bool:
        """Return True where the disk has not answered since `late_s`; messages in memory then stop waiting for it."""
        is_reading = self._is_asking and self.asked_s < late_s
        self._is_hung = is_reading or (bool(self._queued) and self._queued[0].queued_s < late_s)
        return self._is_hung

    def _enter(self, entry: OutboxItem, state: State) -> None:
        entry.state = state
        if state in {State.STORED, State.GONE}:
            del self._known[entry.number]
            return
        self._counts[state] += 1
        self._bytes[state] += entry.size_bytes
        if (after := self._lists.get(state)) is not None:
            insort(after, entry, key=_NUMBER)

    def _is_next(self, entry: OutboxItem) -> bool:
        """Return True where no older message must go first: on disk, queued for it, or unanswered on the same topic."""
        older = takewhile(lambda other: other.number < entry.number, self.in_flight)
        if any(other.message.topic == entry.message.topic for other in older):
            return False
        if self._is_hung:
            return True
        is_known = self._is_read or entry.number <= self.cursor
        return is_known and not (self._queued and self._queued[0].number < entry.number)
