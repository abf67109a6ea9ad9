"""What control says, and how surely: state, events, detections and live values each in their own way."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final, Protocol

from agent.mqtt.ack_rate import AckRate
from agent.mqtt.outbox import Entry, Outbox
from agent.mqtt.outgoing import Outgoing
from agent.mqtt.topics import Topics

_STATES_LIMIT: Final = 1024
"""States that wait for room in the window, at most; then only the present truth waits."""
_EVENTS: Final = ""


class Sending(Protocol):
    """What a publisher needs of the link."""

    @property
    def connection(self) -> int:
        """Which connection is up; 0 while none is."""

    @property
    def in_flight(self) -> int:
        """Messages without an answer."""

    @property
    def window(self) -> int:
        """How many `in_flight` may be."""

    @property
    def has_room(self) -> bool:
        """Whether one more QoS 1 message may go."""

    def publish(self, message: Outgoing, acknowledged: Callable[[], None] | None = None) -> bool:
        """Send now; False: not now."""

    def stop(self, last: Sequence[Outgoing], timeout_s: float) -> bool:
        """Send `last`, wait for their acknowledgement, disconnect."""


class Publisher:
    """Speaks on a connection only after `announce`, which is owed at each LinkUp, after subscribing.

    On the wire, states and live detections keep the order in which they were given: a detection for which there is no
    room at once goes to the outbox, and later to the replay topic. Nothing retained is ever sent from an older time:
    a new connection begins with the present truth. For the loop's thread.
    """

    def __init__(
        self, link: Sending, topics: Topics, events: Outbox, detections: Outbox, *, keep_detections: bool = True
    ) -> None:
        self.live_dropped = 0
        self.states_folded = 0
        self.detections_dropped = 0
        self._link: Final = link
        self._topics: Final = topics
        self._events: Final = events
        self._detections: Final = detections
        self._keep_detections: Final = keep_detections
        self._truth: Final[dict[str, bytes]] = {}
        self._states: Final[deque[tuple[str, bytes]]] = deque()
        self._connection = 0
        self._announced = False
        self._event_count = 0
        self._rate: Final = AckRate()

    def send_state(self, topic: str, payload: bytes) -> None:
        """Set a retained value. One that did not change is not sent again; an empty one clears the topic."""
        self._look()
        if self._truth.get(topic) == payload:
            return
        self._truth[topic] = payload
        if not self._announced:
            return
        self._states.append((topic, payload))
        if len(self._states) > _STATES_LIMIT:
            self.states_folded += len(self._states)
            self.announce()
        self._pump()

    def send_event(self, topic: str, payload: bytes, correlation: bytes | None = None) -> None:
        """Send at QoS 1, keeping it until the broker acknowledged it."""
        self._look()
        self._event_count += 1
        self._events.keep(_EVENTS, self._event_count, Outgoing(topic, payload, correlation=correlation))
        self._pump()

    def send_detection(self, stream: str, seq: int, payload: bytes) -> None:
        """Send a stream's next detections live, or keep them for its replay topic. seq grows with each message."""
        topics = self._topics
        live, later = topics.of_stream(stream, "detections"), topics.of_stream(stream, "replay")
        self._send_numbered(stream, seq, Outgoing(live, payload), later)

    def send_summary(self, stream: str, seq: int, payload: bytes) -> None:
        """Send a stream's next summary, now or later, on its one topic. seq counts on with the stream's detections."""
        topic = self._topics.of_stream(stream, "summary")
        self._send_numbered(stream, seq, Outgoing(topic, payload), topic)

    def send_live(self, topic: str, payload: bytes) -> None:
        """Send at QoS 0, now or never."""
        self._look()
        if not (self._announced and self._link.publish(Outgoing(topic, payload, qos=0))):
            self.live_dropped += 1

    def announce(self) -> None:
        """Send the truth of everything retained: every line's `ready` first, the device's `status` last."""
        self._look()
        self._announced = self._connection != 0
        if self._announced:
            self._states.clear()
            self._states.extend(sorted(self._truth.items(), key=self._rank))
            self._pump()

    def tick(self) -> None:
        """Expire what is too old, and go on with what waits; owed each 0.5 s."""
        self._look()
        self._events.expire()
        self._detections.expire()
        self._pump()
        self._rate.look(monotonic(), is_behind=self._announced and self._is_waiting)

    def counters(self) -> dict[str, int]:
        """Return what waits for the broker and what was dropped since the start."""
        return {
            "events": self._events.depth,
            "detections": self._detections.depth,
            "bytes": self._events.size_bytes + self._detections.size_bytes,
            "events_dropped": self._events.dropped,
            "detections_dropped": self._detections.dropped + self.detections_dropped,
            "live_dropped": self.live_dropped,
        }

    @property
    def oldest_age_s(self) -> float:
        """How long the oldest message has waited for its acknowledgement; 0 where none does."""
        return max(self._events.oldest_age_s, self._detections.oldest_age_s)

    def acknowledged_kbps(self, now_s: float) -> float | None:
        """Return the acknowledged rate in kbit/s; None while the outbox has not been behind for 5 s.

        Behind is what waits on a connection that stands: without one nothing is known of the way. `now_s` is
        time.monotonic.
        """
        return self._rate.kbps(now_s)

    @property
    def _is_waiting(self) -> bool:
        return bool(self._states or self._events.waiting or self._detections.waiting)

    def stop(self, last: Sequence[tuple[str, bytes]], timeout_s: float) -> bool:
        """Send the last retained values (`ready` 0 of each line, then `status`), and disconnect when acknowledged."""
        self._truth.update(last)
        return self._link.stop([Outgoing(topic, payload, retain=True) for topic, payload in last], timeout_s)

    def _look(self) -> None:
        """Notice that the connection is another one: what was on the wire goes back, states are announced anew."""
        if self._link.connection == self._connection:
            return
        self._connection = self._link.connection
        self._announced = False
        self._states.clear()
        self._events.back()
        self._detections.back()

    def _rank(self, item: tuple[str, bytes]) -> int:
        topic = item[0]
        if topic.startswith(f"{self._topics.base}/line/") and topic.endswith("/ready"):
            return 0
        return 2 if topic == self._topics.status else 1

    def _pump(self) -> None:
        while self._announced and self._states and self._link.has_room:
            topic, payload = self._states.popleft()
            message = Outgoing(topic, payload, retain=True)
            self._link.publish(message, partial(self._state_arrived, message))
        while self._announced and not self._states and self._link.has_room and self._send_next(self._events):
            pass
        # live messages have the right of way: replay leaves them half the window
        while (
            self._announced
            and not self._states
            and 2 * self._link.in_flight < self._link.window
            and self._link.has_room
            and self._send_next(self._detections)
        ):
            pass

    def _send_numbered(self, stream: str, seq: int, message: Outgoing, later: str) -> None:
        self._look()
        is_live = self._announced and not self._states and self._link.has_room
        if not self._keep_detections:
            if not (is_live and self._link.publish(message)):
                self.detections_dropped += 1
        elif is_live:
            entry = self._detections.lend(stream, seq, Outgoing(later, message.payload))
            if not self._link.publish(message, partial(self._arrived, self._detections, entry)):
                self._look()
        else:
            self._detections.keep(stream, seq, Outgoing(later, message.payload))

    def _send_next(self, outbox: Outbox) -> bool:
        entry = outbox.next()
        return entry is not None and self._link.publish(entry.message, partial(self._arrived, outbox, entry))

    def _arrived(self, outbox: Outbox, entry: Entry) -> None:
        outbox.acknowledged(entry)
        self._rate.arrived(entry.message.size_bytes)
        self._pump()

    def _state_arrived(self, message: Outgoing) -> None:
        self._rate.arrived(message.size_bytes)
        self._pump()
