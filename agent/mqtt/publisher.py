"""What control says, and how surely: state, events, detections and live values each in their own way."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final, Literal, Protocol

from agent.mqtt.ack_rate import AckRate
from agent.mqtt.connection import LoopLike
from agent.mqtt.entry import Entry, Kind
from agent.mqtt.outbox import Outbox
from agent.mqtt.outgoing import Outgoing
from agent.mqtt.pace import Pace
from agent.mqtt.topics import Topics

_STATES_LIMIT: Final = 1024
"""States that wait for room in the window, at most; then only the present truth waits."""
_PLURAL: Final = {Kind.EVENT: "events", Kind.SUMMARY: "summaries", Kind.DETECTION: "detections"}
Keep = Literal["offline", "always", "never"]
"""`[outbox] detections`."""


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

    On the wire, states and live detections keep the order in which they were given: a detection that cannot go at once
    goes to the outbox, and later to the replay topic. Nothing retained is ever sent from an older time: a new
    connection begins with the present truth. For the loop's thread.

    `detections`: `always` sends a detection when it is on disk; `offline` sends it from memory, and the outbox puts on
    disk what is not acknowledged soon; `never` drops what cannot go at once.
    """

    def __init__(self, link: Sending, topics: Topics, outbox: Outbox, detections: Keep = "offline") -> None:
        self.live_dropped = 0
        self.states_folded = 0
        self._dropped: Final = dict.fromkeys(Kind, 0)
        self._link: Final = link
        self._topics: Final = topics
        self._outbox: Final = outbox
        self._keep: Final = detections
        self._truth: Final[dict[str, bytes]] = {}
        self._states: Final[deque[tuple[str, bytes]]] = deque()
        self._fresh: Final[deque[_Fresh]] = deque()
        self._connection = 0
        self._announced = False
        self._replaying = 0
        self._pace: Final = Pace()
        self._rate: Final = AckRate()
        outbox.on_change = self._pump

    def start(self, loop: LoopLike) -> None:
        """Open the outbox's file; returns at once."""
        self._outbox.start(loop)

    def send_state(self, topic: str, payload: bytes) -> None:
        """Set a retained value. One that did not change is not sent again; an empty one clears the topic."""
        self._look()
        if self._truth.get(topic) == payload:
            return
        self._truth[topic] = payload
        if not self._announced:
            return
        self._demote()
        self._states.append((topic, payload))
        if len(self._states) > _STATES_LIMIT:
            self.states_folded += len(self._states)
            self.announce()
        self._pump()

    def send_event(self, topic: str, payload: bytes, correlation: bytes | None = None) -> None:
        """Send at QoS 1, keeping it until the broker acknowledged it."""
        self._look()
        self._outbox.keep(Kind.EVENT, Outgoing(topic, payload, correlation=correlation))
        self._pump()

    def send_detection(self, stream: str, payload: bytes) -> None:
        """Send a stream's next detections live, or keep them for its replay topic."""
        self._look()
        live = Outgoing(self._topics.of_stream(stream, "detections"), payload)
        later = Outgoing(self._topics.of_stream(stream, "replay"), payload)
        if self._keep == "never":
            if not (self._may_go_live and self._link.publish(live, partial(self._rate.arrived, live.size_bytes))):
                self._dropped[Kind.DETECTION] += 1
        elif self._keep == "always" and self._announced and self._outbox.can_write:
            fresh = _Fresh(live)
            fresh.entry = self._outbox.lend_written(Kind.DETECTION, later, partial(self._written, fresh))
            self._fresh.append(fresh)
        elif self._may_go_live and not self._fresh:
            self._go_live(live, self._outbox.lend(Kind.DETECTION, later))
        else:
            self._outbox.keep(Kind.DETECTION, later)

    def send_summary(self, stream: str, payload: bytes) -> None:
        """Send a stream's next summary behind those before it: there is one topic for now and later."""
        self._look()
        message = Outgoing(self._topics.of_stream(stream, "summary"), payload)
        if self._keep != "never":
            self._outbox.keep(Kind.SUMMARY, message)
            self._pump()
        elif not (self._may_go_live and self._link.publish(message, partial(self._rate.arrived, message.size_bytes))):
            self._dropped[Kind.SUMMARY] += 1

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
        """Expire what is too old, put on disk what is in doubt, and go on with what waits; owed each 0.5 s."""
        self._look()
        self._outbox.tick(is_up=self._announced)
        if self._fresh and not self._outbox.can_write:
            # the disk hangs: what waits for it goes without
            for fresh in list(self._fresh):
                self._written(fresh)
        self._pump()
        is_behind = self._announced and (bool(self._states) or self._outbox.has_unsent)
        self._rate.look(monotonic(), is_behind=is_behind and not self._pace.take_rated())

    def counters(self) -> dict[str, int]:
        """Return what waits for the broker and what was dropped since the start, by class."""
        outbox = self._outbox
        dropped = {f"{_PLURAL[kind]}_dropped": outbox.dropped(kind) + self._dropped[kind] for kind in Kind}
        return {
            **{_PLURAL[kind]: outbox.depth(kind) for kind in Kind},
            "bytes": outbox.size_bytes,
            "disk_bytes": outbox.disk_bytes,
            **dropped,
            "live_dropped": self.live_dropped,
        }

    @property
    def oldest_age_s(self) -> float:
        """How long the oldest message has waited for its acknowledgement; 0 where none does."""
        return self._outbox.oldest_age_s

    def acknowledged_kbps(self, now_s: float) -> float | None:
        """Return the acknowledged rate in kbit/s; None while the outbox has not been behind for 5 s.

        Behind is what waits on a connection that stands, other than by the replay's own rate: without that nothing is
        known of the way. `now_s` is time.monotonic.
        """
        return self._rate.kbps(now_s)

    def stop(self, last: Sequence[tuple[str, bytes]], timeout_s: float) -> bool:
        """Send the last retained values (`ready` 0 of each line, then `status`), and disconnect when acknowledged.

        What was not acknowledged is on disk when this returns.
        """
        self._demote()
        self._truth.update(last)
        done = self._link.stop([Outgoing(topic, payload, retain=True) for topic, payload in last], timeout_s)
        self._outbox.stop()
        return done

    @property
    def _may_go_live(self) -> bool:
        return self._announced and not self._states and self._link.has_room

    def _look(self) -> None:
        """Notice that the connection is another one: what was on the wire goes back, states are announced anew."""
        if self._link.connection == self._connection:
            return
        self._connection = self._link.connection
        self._announced = False
        self._replaying = 0
        self._states.clear()
        self._fresh.clear()
        self._outbox.back()
        self._pace.lost()

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
        for kind in (Kind.EVENT, Kind.SUMMARY):
            while self._announced and not self._states and self._link.has_room and self._send_next(kind):
                pass
        self._replay()

    def _replay(self) -> None:
        """Send what was kept; live messages have the right of way, and half of the window for themselves."""
        while self._announced and not self._states and self._link.has_room:
            now_s, others = monotonic(), self._link.in_flight - self._replaying
            if not self._pace.may_send(self._replaying, max(1, self._link.window // 2) - others, now_s):
                return
            entry = self._outbox.next(Kind.DETECTION)
            if entry is None:
                return
            self._pace.sent()
            self._replaying += 1
            if not self._link.publish(entry.message, partial(self._replayed, entry, now_s)):
                return

    def _send_next(self, kind: Kind) -> bool:
        entry = self._outbox.next(kind)
        return entry is not None and self._link.publish(entry.message, partial(self._arrived, entry))

    def _go_live(self, live: Outgoing, entry: Entry) -> None:
        if not self._link.publish(live, partial(self._arrived, entry)):
            self._outbox.release(entry)
            self._look()

    def _written(self, fresh: "_Fresh") -> None:
        fresh.is_written = True
        while self._fresh and self._fresh[0].is_written:
            first = self._fresh.popleft()
            if first.entry is not None and self._may_go_live:
                self._go_live(first.live, first.entry)
            elif first.entry is not None:
                self._outbox.release(first.entry)

    def _demote(self) -> None:
        """Send on the replay topic what was to go live: a state must not wait for the disk, nor be overtaken."""
        while self._fresh:
            entry = self._fresh.popleft().entry
            if entry is not None:
                self._outbox.release(entry)

    def _arrived(self, entry: Entry) -> None:
        self._outbox.acknowledged(entry)
        self._rate.arrived(entry.message.size_bytes)
        self._pump()

    def _replayed(self, entry: Entry, sent_s: float) -> None:
        self._replaying -= 1
        now_s = monotonic()
        self._pace.arrived(now_s - sent_s, now_s)
        self._arrived(entry)

    def _state_arrived(self, message: Outgoing) -> None:
        self._rate.arrived(message.size_bytes)
        self._pump()


class _Fresh:
    """A detection that goes live when it is on disk."""

    def __init__(self, live: Outgoing) -> None:
        self.live: Final = live
        self.entry: Entry | None = None
        self.is_written = False
