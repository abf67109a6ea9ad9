"""Queue of states, live detections and heartbeats that wait for room in the window, in order."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox_item import OutboxItem

LIVE_S: Final = 1.0
"""A detection that waits longer is no longer live, and goes to the outbox."""
HOLDS_UP_S: Final = 0.1
"""Longest time for which detections may delay a state behind them."""
_MOST: Final = 256
_MOST_BYTES: Final = 2**20


@dataclass(slots=True, eq=False)
class Live:
    """A detection in the send queue."""

    message: OutgoingMessage
    since_s: float
    """Time it was enqueued, or was written to disk."""
    entry: OutboxItem | None = None
    """The detection's item in the outbox; None where it is not kept."""
    is_written: bool = True
    """False while it must still be written to disk before it may be sent."""


@dataclass(slots=True, eq=False)
class Heartbeat:
    """A value of QoS 0 in the send queue, which must not overtake what was enqueued before it."""

    message: OutgoingMessage


class SendQueue:
    """Queue with a bound on detections, and one heartbeat a topic; its caller bounds the states.

    Times are of one monotonic clock.
    """

    def __init__(self) -> None:
        self.states = 0
        self._queue: deque[OutgoingMessage | Live | Heartbeat] = deque()
        self._live_bytes = 0
        self._heartbeats: dict[str, Heartbeat] = {}
        """Those that wait, by topic."""

    def __len__(self) -> int:
        return len(self._queue)

    def takes(self, message: OutgoingMessage) -> bool:
        """Return True where one more detection may wait."""
        is_many = len(self._queue) - self.states - len(self._heartbeats) >= _MOST
        return not is_many and self._live_bytes + message.size_bytes <= _MOST_BYTES

    def add_state(self, message: OutgoingMessage) -> None:
        """Enqueue a state."""
        self._queue.append(message)
        self.states += 1

    def add_live(self, live: Live) -> None:
        """Enqueue a detection."""
        self._queue.append(live)
        self._live_bytes += live.message.size_bytes

    def add_heartbeat(self, message: OutgoingMessage) -> None:
        """Enqueue a heartbeat in place of the topic's earlier one; one of the same value keeps its place."""
        waiting = self._heartbeats.get(message.topic)
        if waiting is not None and waiting.message.payload == message.payload:
            return
        self.drop_heartbeat(message.topic)
        self._heartbeats[message.topic] = heartbeat = Heartbeat(message)
        self._queue.append(heartbeat)

    def drop_heartbeat(self, topic: str) -> None:
        """Remove the topic's waiting heartbeat, if there is one."""
        waiting = self._heartbeats.pop(topic, None)
        if waiting is not None:
            self._queue.remove(waiting)

    def next(self) -> OutgoingMessage | Live | Heartbeat | None:
        """Dequeue the first item; None where nothing waits, or the first one waits for the disk."""
        first = self._queue[0] if self._queue else None
        if first is None or (isinstance(first, Live) and not first.is_written):
            return None
        self._queue.popleft()
        self._uncount(first)
        return first

    def unwritten(self) -> list[Live]:
        """Return the detections that wait for the disk; they stay queued."""
        return [one for one in self._queue if isinstance(one, Live) and not one.is_written]

    def take_unwritten(self) -> list[Live]:
        """Remove and return the detections that wait for the disk."""
        return self._take_out(lambda _place, live: not live.is_written)

    def take_late(self, now_s: float) -> list[Live]:
        """Remove and return the detections that waited too long: LIVE_S, or HOLDS_UP_S where a state waits behind."""
        if len(self._queue) == self.states + len(self._heartbeats):
            return []
        last_state = max(
            (place for place, one in enumerate(self._queue) if isinstance(one, OutgoingMessage)), default=-1
        )
        return self._take_out(
            lambda place, live: (
                live.is_written and now_s - live.since_s > (HOLDS_UP_S if place < last_state else LIVE_S)
            )
        )

    def clear(self) -> list[Live]:
        """Drop the states and heartbeats; remove and return every detection."""
        taken = self._take_out(lambda _place, _live: True)
        self._queue.clear()
        self._heartbeats.clear()
        self.states = 0
        return taken

    def _take_out(self, is_out: Callable[[int, Live], bool]) -> list[Live]:
        out: list[Live] = []
        for place, one in enumerate(self._queue):
            if isinstance(one, Live) and is_out(place, one):
                out.append(one)
        if out:
            gone = set(map(id, out))
            self._queue = deque(one for one in self._queue if id(one) not in gone)
            for one in out:
                self._uncount(one)
        return out

    def _uncount(self, one: OutgoingMessage | Live | Heartbeat) -> None:
        if isinstance(one, Live):
            self._live_bytes -= one.message.size_bytes
        elif isinstance(one, Heartbeat):
            del self._heartbeats[one.message.topic]
        else:
            self.states -= 1
