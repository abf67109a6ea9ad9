"""Values of QoS 0, such as `live`: sent at once, behind what they must not overtake, or never."""

from collections.abc import Callable
from typing import Final

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.publishing.send_queue import SendQueue

_NOTHING: Final = b"0"


class Heartbeats:
    """Sender of values of QoS 0 on one connection at a time; for the publisher's thread.

    A `0` overtakes everything, and is owed where the socket does not take it. A new value waits in the queue for what
    was enqueued before it, such as detections of the model before. The value that was sent last waits for nothing.
    """

    def __init__(self, publish: Callable[[OutgoingMessage], bool], queue: SendQueue) -> None:
        self.dropped = 0
        self._publish: Final = publish
        self._queue: Final = queue
        self._last: Final[dict[str, bytes]] = {}
        """Newest value by topic that was sent or owed on this connection."""
        self._owed_zeros: Final[set[str]] = set()

    def begin(self) -> None:
        """Forget the last connection, because every line's `live` is sent anew on each."""
        self._last.clear()
        self._owed_zeros.clear()

    def drop(self) -> None:
        """Count a value that came while nothing may be sent."""
        self.dropped += 1

    def offer(self, topic: str, payload: bytes) -> None:
        """Send a value, or enqueue it in place of the topic's earlier one."""
        message = OutgoingMessage(topic, payload, qos=0)
        if self._queue and payload not in {_NOTHING, self._last.get(topic)}:
            self._queue.add_heartbeat(message)
            return
        self._queue.drop_heartbeat(topic)
        self.send(message)

    def send(self, message: OutgoingMessage) -> None:
        """Send a value whose turn it is."""
        self._last[message.topic] = message.payload
        is_owed = message.topic in self._owed_zeros and message.payload != _NOTHING
        if is_owed and not self._send_zero(message.topic):
            self.dropped += 1  # because a change that does not pass through 0 may not be seen
        elif self._publish(message):
            self._owed_zeros.discard(message.topic)
        else:
            self.dropped += 1
            if message.payload == _NOTHING:
                self._owed_zeros.add(message.topic)

    def send_owed(self) -> None:
        """Send each `0` that the socket did not take; call before anything else is sent."""
        for topic in sorted(self._owed_zeros):
            self._send_zero(topic)

    def _send_zero(self, topic: str) -> bool:
        is_sent = self._publish(OutgoingMessage(topic, _NOTHING, qos=0))
        if is_sent:
            self._owed_zeros.discard(topic)
        return is_sent
