"""Messages that the broker has not acknowledged, in memory. One outbox keeps events, another one detections."""

from collections import deque
from collections.abc import Callable
from heapq import merge
from operator import attrgetter
from time import monotonic
from typing import Final

import msgspec

from agent.mqtt.outgoing import Outgoing

_OVERHEAD_BYTES: Final = 256
"""What an entry takes beside its payload."""


class Entry(msgspec.Struct, frozen=True):
    """One message. `seq` orders the messages of a `stream`; `kept_s` is when it came, on the outbox's clock."""

    stream: str
    seq: int
    message: Outgoing
    kept_s: float

    @property
    def size_bytes(self) -> int:
        """What it counts for."""
        return len(self.message.payload) + _OVERHEAD_BYTES


class Outbox:
    """Bounded by bytes and age; the oldest go first, and are counted in `dropped`. For one thread.

    An entry is waiting, or taken (it is on the wire). `acknowledged` ends it; `back` makes every taken one wait again,
    in the order of seq within its stream. Taken ones are few (the link's window), and are not dropped.
    """

    def __init__(self, max_bytes: int, max_age_s: float, clock: Callable[[], float] = monotonic) -> None:
        self.dropped = 0
        self._max_bytes: Final = max_bytes
        self._max_age_s: Final = max_age_s
        self._clock: Final = clock
        self._waiting: Final[dict[str, deque[Entry]]] = {}
        self._waiting_count = 0
        self._waiting_bytes = 0
        self._taken: Final[dict[tuple[str, int], Entry]] = {}

    @property
    def depth(self) -> int:
        """How many messages are not acknowledged."""
        return self._waiting_count + len(self._taken)

    @property
    def waiting(self) -> int:
        """How many of them are not on the wire."""
        return self._waiting_count

    @property
    def size_bytes(self) -> int:
        """What they take."""
        return self._waiting_bytes + sum(entry.size_bytes for entry in self._taken.values())

    @property
    def oldest_age_s(self) -> float:
        """The age of the oldest waiting one; 0 with none."""
        oldest = self._oldest()
        return 0.0 if oldest is None else self._clock() - oldest.kept_s

    def keep(self, stream: str, seq: int, message: Outgoing) -> None:
        """Let a message wait; its seq is greater than all before it in its stream."""
        entry = Entry(stream, seq, message, self._clock())
        self._waiting.setdefault(stream, deque()).append(entry)
        self._count(entry, 1)
        self._trim()

    def lend(self, stream: str, seq: int, message: Outgoing) -> Entry:
        """Keep a message that goes on the wire at once; `message` is what to send should it have to wait after all."""
        entry = self._taken[stream, seq] = Entry(stream, seq, message, self._clock())
        return entry

    def next(self) -> Entry | None:
        """Take the oldest waiting message."""
        entry = self._oldest()
        if entry is None:
            return None
        self._remove_first(entry.stream)
        self._taken[entry.stream, entry.seq] = entry
        return entry

    def acknowledged(self, entry: Entry) -> None:
        """Forget a taken message: it arrived."""
        self._taken.pop((entry.stream, entry.seq), None)

    def back(self) -> None:
        """Let every taken message wait again: the connection that they were on is gone."""
        by_stream: dict[str, list[Entry]] = {}
        for entry in sorted(self._taken.values(), key=_SEQ):
            by_stream.setdefault(entry.stream, []).append(entry)
            self._count(entry, 1)
        self._taken.clear()
        for stream, entries in by_stream.items():
            self._waiting[stream] = deque(merge(entries, self._waiting.get(stream, ()), key=_SEQ))
        self._trim()

    def expire(self) -> None:
        """Drop what is older than the bound on age."""
        self._trim()

    def _oldest(self) -> Entry | None:
        heads = [entries[0] for entries in self._waiting.values()]
        return min(heads, key=_KEPT) if heads else None

    def _trim(self) -> None:
        old_s = self._clock() - self._max_age_s
        while (oldest := self._oldest()) and (self._waiting_bytes > self._max_bytes or oldest.kept_s < old_s):
            self._remove_first(oldest.stream)
            self.dropped += 1

    def _remove_first(self, stream: str) -> None:
        entries = self._waiting[stream]
        self._count(entries.popleft(), -1)
        if not entries:
            del self._waiting[stream]

    def _count(self, entry: Entry, sign: int) -> None:
        self._waiting_count += sign
        self._waiting_bytes += sign * entry.size_bytes


_SEQ: Final = attrgetter("seq")
_KEPT: Final = attrgetter("kept_s")
