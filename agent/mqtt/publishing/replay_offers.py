"""Selection of the outbox messages that may be sent now, given earlier refusals.

Times are time.monotonic.
"""

from typing import Final

from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.publishing.retry_backoff import Retries

_PARKED_LIMIT: Final = 256
"""Bound on parked messages of one class; beyond it events are dropped, and other classes wait."""


class Offers:
    """Takes messages from the outbox in order, and parks those of denied topics.

    A parked message stays in flight for the outbox: it is written to disk there, and is requeued with the next
    connection.
    """

    def __init__(self, outbox: Outbox, retries: Retries) -> None:
        self.dropped: Final = dict.fromkeys(Kind, 0)
        self._outbox: Final = outbox
        self._retries: Final = retries
        self._parked: Final[dict[int, OutboxItem]] = {}

    def clear(self) -> None:
        """Forget parked messages, because the outbox has requeued them."""
        self._parked.clear()

    def next(self, kind: Kind, now_s: float) -> OutboxItem | None:
        """Take the next message that may be sent; None without one."""
        while not self._retries.is_held(now_s) and not self._is_full(kind):
            entry = self._outbox.next(kind)
            if entry is None:
                return None
            if self._retries.is_careful(now_s) and self._outbox.has_older_on_the_wire(entry, self._parked):
                self._outbox.release(entry)
                return None
            if not self._retries.is_denied(entry.message.topic, now_s):
                return entry
            self.park(entry)
        return None

    def park(self, entry: OutboxItem) -> None:
        """Park a message until its topic may be tried again."""
        entry.sent_s = None
        self._parked[entry.number] = entry

    def unpark(self, now_s: float) -> None:
        """Requeue parked messages whose topic may be tried again."""
        for entry in list(self._parked.values()):
            if not self._retries.is_denied(entry.message.topic, now_s):
                del self._parked[entry.number]
                self._outbox.release(entry)

    def _is_full(self, kind: Kind) -> bool:
        parked = [entry for entry in self._parked.values() if entry.kind is kind]
        if len(parked) < _PARKED_LIMIT:
            return False
        if kind is not Kind.EVENT:
            return True
        # dropped, because acks and alerts on other topics must pass
        del self._parked[parked[0].number]
        self._outbox.acknowledged(parked[0])
        self.dropped[kind] += 1
        return False
