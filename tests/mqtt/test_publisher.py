"""The publisher's order, with a link that does what the test says."""

import itertools
from collections.abc import Callable, Sequence

import pytest

from agent.messages.topics import Topics
from agent.mqtt.endpoint.connect_errors import Outcome
from agent.mqtt.link.connection import Answered
from agent.mqtt.link.graceful_disconnect import ExtraReader
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.sqlite_store import Bounds
from agent.mqtt.publishing.publisher import Keep, Publisher

TOPICS = Topics("changeover/v1", "box-7")
READY = TOPICS.of_line("line-1", "ready")
LIVE = TOPICS.of_line("line-1", "live")


class DummyLink:
    """A link with a wire that can be read; `acknowledge` answers the oldest message."""

    def __init__(self, window: int = 64) -> None:
        self.connection = 0
        self.window = window
        self.is_choked = False
        self.wire: list[tuple[str, bytes]] = []
        self.given_up: list[str] = []
        self.denied: list[str] = []
        self._unanswered: list[Answered | None] = []

    @property
    def in_flight(self) -> int:
        return len(self._unanswered)

    @property
    def has_room(self) -> bool:
        return self.connection != 0 and self.in_flight < self.window and not self.is_choked

    def publish(self, message: OutgoingMessage, answered: Answered | None = None) -> bool:
        if self.connection == 0 or (not self.has_room if message.qos else self.is_choked):
            return False
        self.wire.append((message.topic.removeprefix("changeover/v1/box-7/"), message.payload))
        if message.qos:
            self._unanswered.append(answered)
        return True

    def deny(self, topic: str, why: str) -> None:
        del why
        self.denied.append(topic)

    def give_up(self, detail: str) -> None:
        self.given_up.append(detail)
        self.connect(0)

    def hold(self, seconds: float, owes: Callable[[], bool], beside: ExtraReader | None) -> None:
        del seconds, beside
        while owes() and self._unanswered:
            self.acknowledge()
        self.connect(0)

    def stop(self, last: Sequence[OutgoingMessage], timeout_s: float) -> bool:
        del timeout_s
        return all(self.publish(message) for message in last)

    def connect(self, number: int) -> None:
        self.connection = number
        self._unanswered.clear()

    def acknowledge(self, outcome: Outcome = Outcome.ACCEPTED) -> None:
        answered = self._unanswered.pop(0)
        if answered is not None:
            answered(outcome)

    def acknowledge_all(self) -> None:
        while self._unanswered:
            self.acknowledge()


def make(link: DummyLink, detections: Keep = "offline") -> Publisher:
    return Publisher(link, TOPICS, Outbox(Bounds(1 << 20, 3600)), detections)


def announced(link: DummyLink) -> Publisher:
    publisher = make(link)
    link.connect(1)
    publisher.announce()
    return publisher


def test_nothing_is_said_on_a_connection_before_it_is_announced() -> None:
    link = DummyLink()
    publisher = make(link)
    link.connect(1)
    publisher.send_state(READY, b"0")
    publisher.send_event(TOPICS.of_device("alert"), b"e")
    publisher.send_live(TOPICS.of_line("line-1", "live"), b"0")
    publisher.send_detection("cam-1", b"d")
    assert link.wire == []
    publisher.announce()
    assert link.wire == [("line/line-1/ready", b"0"), ("alert", b"e"), ("stream/cam-1/replay", b"d")]
    assert publisher.counters()["live_dropped"] == 1


def test_an_unchanged_state_is_said_once_and_a_changed_one_again() -> None:
    link = DummyLink()
    publisher = announced(link)
    for value in (b"0", b"0", b"bottle-500", b"bottle-500", b"0"):
        publisher.send_state(READY, value)
    assert [payload for _, payload in link.wire] == [b"0", b"bottle-500", b"0"]


def test_every_connection_hears_only_the_present_truth() -> None:
    link = DummyLink()
    publisher = announced(link)
    publisher.send_state(READY, b"bottle-500")
    link.connect(0)
    publisher.send_state(READY, b"0")
    publisher.send_state(READY, b"bottle-330")
    link.connect(2)
    link.wire.clear()
    publisher.announce()
    assert link.wire == [("line/line-1/ready", b"bottle-330")]


def test_states_and_live_detections_keep_their_order_when_there_is_no_room() -> None:
    link = DummyLink(window=2)
    publisher = announced(link)
    publisher.send_detection("cam-1", b"old model")
    publisher.send_state(READY, b"0")
    publisher.send_detection("cam-1", b"old model too")
    publisher.send_state(READY, b"bottle-500")
    publisher.send_detection("cam-1", b"new model")
    link.acknowledge_all()
    publisher.send_detection("cam-1", b"new model too")
    assert link.wire == [
        ("stream/cam-1/detections", b"old model"),
        ("line/line-1/ready", b"0"),
        ("stream/cam-1/detections", b"old model too"),
        ("line/line-1/ready", b"bottle-500"),
        ("stream/cam-1/detections", b"new model"),
        ("stream/cam-1/detections", b"new model too"),
    ]


def test_a_state_is_held_up_for_a_moment_and_a_detection_is_live_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("agent.mqtt.publishing.publisher.monotonic", lambda: now_s)
    link = DummyLink(window=1)
    publisher = announced(link)
    for payload in (b"1", b"2", b"3"):
        publisher.send_detection("cam-1", payload)
    publisher.send_state(READY, b"0")
    publisher.send_detection("cam-1", b"4")
    now_s += 0.2
    publisher.tick()
    link.acknowledge()
    assert link.wire[1:] == [("line/line-1/ready", b"0")]
    publisher.send_detection("cam-1", b"5")
    now_s += 0.9
    publisher.tick()
    link.acknowledge_all()
    assert link.wire[2:] == [
        ("stream/cam-1/detections", b"5"),
        ("stream/cam-1/replay", b"2"),
        ("stream/cam-1/replay", b"3"),
        ("stream/cam-1/replay", b"4"),
    ]


def test_what_waits_to_go_live_is_bounded_and_an_event_goes_before_it() -> None:
    link = DummyLink(window=1)
    publisher = announced(link)
    for number in range(300):
        publisher.send_detection("cam-1", str(number).encode())
    publisher.send_event(TOPICS.of_device("alert"), b"e")
    link.acknowledge_all()
    assert link.wire[1] == ("alert", b"e")
    live = [int(payload) for topic, payload in link.wire if topic.endswith("detections")]
    later = [int(payload) for topic, payload in link.wire if topic.endswith("replay")]
    assert live == list(range(257))
    assert later == list(range(257, 300))


@pytest.mark.parametrize("detections", ["offline", "never"])
def test_what_waits_to_go_live_goes_back_with_the_connection(detections: Keep) -> None:
    link = DummyLink(window=1)
    publisher = make(link, detections)
    link.connect(1)
    publisher.announce()
    for number in range(3):
        publisher.send_detection("cam-1", str(number).encode())
    link.connect(2)
    publisher.announce()
    link.acknowledge_all()
    kept = [("stream/cam-1/replay", str(number).encode()) for number in range(3)] if detections == "offline" else []
    assert link.wire[1:] == kept
    assert publisher.counters()["detections_dropped"] == (0 if kept else 2)


def test_no_live_detection_overtakes_a_state_that_found_the_socket_full() -> None:
    link = DummyLink()
    publisher = announced(link)
    link.is_choked = True
    publisher.send_state(READY, b"bottle-500")
    link.is_choked = False
    publisher.send_detection("cam-1", b"new model")
    publisher.tick()
    assert link.wire == [("line/line-1/ready", b"bottle-500"), ("stream/cam-1/detections", b"new model")]


def test_a_heartbeat_of_0_that_found_the_socket_full_goes_before_the_next_detection() -> None:
    link = DummyLink()
    publisher = announced(link)
    live = TOPICS.of_line("line-1", "live")
    publisher.send_live(live, b"open")
    link.is_choked = True
    publisher.send_live(live, b"0")
    link.is_choked = False
    publisher.send_detection("cam-1", b"another model")
    assert link.wire == [
        ("line/line-1/live", b"open"),
        ("line/line-1/live", b"0"),
        ("stream/cam-1/detections", b"another model"),
    ]


def test_a_heartbeat_of_0_is_not_sent_behind_a_newer_one() -> None:
    link = DummyLink()
    publisher = announced(link)
    live = TOPICS.of_line("line-1", "live")
    link.is_choked = True
    publisher.send_live(live, b"0")
    link.is_choked = False
    publisher.send_live(live, b"open")
    publisher.tick()
    assert link.wire == [("line/line-1/live", b"0"), ("line/line-1/live", b"open")]


def test_an_owed_heartbeat_of_0_is_sent_before_the_next_product_that_waits() -> None:
    link = DummyLink(window=2)
    publisher = announced(link)
    publisher.send_live(LIVE, b"open")
    for payload in (b"old model 1", b"old model 2", b"old model 3"):
        publisher.send_detection("cam-1", payload)
    link.is_choked = True
    publisher.send_live(LIVE, b"0")
    publisher.send_live(LIVE, b"shut")
    link.is_choked = False
    publisher.tick()
    link.acknowledge_all()
    assert [payload for topic, payload in link.wire if topic.endswith("live")] == [b"open", b"0", b"shut"]


def test_an_owed_heartbeat_of_0_is_sent_before_the_next_product_at_once() -> None:
    link = DummyLink()
    publisher = announced(link)
    publisher.send_live(LIVE, b"open")
    link.is_choked = True
    publisher.send_live(LIVE, b"0")
    publisher.send_live(LIVE, b"shut")
    link.is_choked = False
    publisher.send_live(LIVE, b"shut")
    publisher.tick()
    assert [payload for topic, payload in link.wire if topic.endswith("live")] == [b"open", b"0", b"shut"]


def _changed_over_in_a_full_window() -> tuple[DummyLink, Publisher]:
    """Return a link whose window is full, and a publisher with a changeover that waits for it."""
    link = DummyLink(window=2)
    publisher = announced(link)
    publisher.send_live(LIVE, b"open")
    for payload in (b"old model 1", b"old model 2", b"old model 3"):
        publisher.send_detection("cam-1", payload)
    publisher.send_state(READY, b"0")
    publisher.send_live(LIVE, b"0")
    publisher.send_state(READY, b"shut")
    publisher.send_live(LIVE, b"shut")
    return link, publisher


def test_a_heartbeat_names_the_next_product_behind_the_last_detections_of_the_model_before() -> None:
    link, publisher = _changed_over_in_a_full_window()
    publisher.send_live(LIVE, b"shut")
    publisher.send_detection("cam-1", b"new model")
    link.acknowledge_all()
    assert link.wire == [
        ("line/line-1/live", b"open"),
        ("stream/cam-1/detections", b"old model 1"),
        ("stream/cam-1/detections", b"old model 2"),
        ("line/line-1/live", b"0"),
        ("stream/cam-1/detections", b"old model 3"),
        ("line/line-1/ready", b"0"),
        ("line/line-1/ready", b"shut"),
        ("line/line-1/live", b"shut"),
        ("stream/cam-1/detections", b"new model"),
    ]


def test_a_heartbeat_of_0_takes_back_one_that_waits() -> None:
    link, publisher = _changed_over_in_a_full_window()
    publisher.send_live(LIVE, b"0")
    link.acknowledge_all()
    assert [payload for topic, payload in link.wire if topic.endswith("live")] == [b"open", b"0", b"0"]


def test_a_heartbeat_that_says_nothing_new_waits_for_nothing() -> None:
    link = DummyLink(window=1)
    publisher = announced(link)
    publisher.send_live(LIVE, b"open")
    for payload in (b"1", b"2"):
        publisher.send_detection("cam-1", payload)
    publisher.send_live(LIVE, b"open")
    assert link.wire[-1] == ("line/line-1/live", b"open")
    assert publisher.counters()["live_dropped"] == 0


def test_a_heartbeat_that_waits_goes_with_its_connection() -> None:
    link, publisher = _changed_over_in_a_full_window()
    link.connect(2)
    link.wire.clear()
    publisher.announce()
    link.acknowledge_all()
    assert not any(topic.endswith("live") for topic, _ in link.wire)
    publisher.send_live(LIVE, b"shut")
    assert link.wire[-1] == ("line/line-1/live", b"shut")


@pytest.mark.parametrize(("window", "most"), [(4, 2), (8, 4), (64, 4)])
def test_replay_leaves_half_of_the_window_to_live_messages(window: int, most: int) -> None:
    link = DummyLink(window)
    publisher = make(link)
    for number in range(20):
        publisher.send_detection(f"cam-{number % 10}", b"kept")
    link.connect(1)
    publisher.announce()
    assert link.in_flight == most
    publisher.send_detection("cam-1", b"live")
    assert link.wire[-1] == ("stream/cam-1/detections", b"live")
    link.acknowledge_all()
    assert len(link.wire) == 21


def test_an_event_in_flight_is_sent_again_on_the_next_connection_and_then_no_more() -> None:
    link = DummyLink()
    publisher = announced(link)
    publisher.send_event(TOPICS.of_device("alert"), b"e")
    for number in (2, 3):
        link.connect(0)
        publisher.tick()
        link.connect(number)
        publisher.announce()
        assert [payload for _, payload in link.wire] == [b"e"] * number
        if number == 2:
            link.acknowledge_all()
            link.wire.append(("", b"e"))


def test_never_keeping_detections_counts_them() -> None:
    link = DummyLink()
    publisher = make(link, "never")
    publisher.send_detection("cam-1", b"d")
    link.connect(1)
    publisher.announce()
    publisher.send_detection("cam-1", b"e")
    assert link.wire == [("stream/cam-1/detections", b"e")]
    assert publisher.counters()["detections_dropped"] == 1


def test_states_that_find_no_room_for_ever_are_folded_into_the_truth() -> None:
    link = DummyLink(window=1)
    publisher = announced(link)
    for count in range(3000):
        publisher.send_state(READY, str(count).encode())
    assert publisher.states_folded > 1000
    link.acknowledge_all()
    assert link.wire[-1] == ("line/line-1/ready", b"2999")


def test_a_summary_comes_later_on_its_own_topic() -> None:
    link = DummyLink()
    publisher = make(link)
    publisher.send_summary("cam-1", b"kept")
    link.connect(1)
    publisher.announce()
    publisher.send_summary("cam-1", b"live")
    link.acknowledge_all()
    assert link.wire == [("stream/cam-1/summary", b"kept"), ("stream/cam-1/summary", b"live")]


def test_stop_says_the_last_words() -> None:
    link = DummyLink()
    publisher = announced(link)
    assert publisher.stop([(READY, b"0"), (TOPICS.status, b"stopped")], 1)
    assert link.wire == [("line/line-1/ready", b"0"), ("status", b"stopped")]


def test_the_acknowledged_rate_is_told_while_messages_wait_for_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("agent.mqtt.publishing.publisher.monotonic", lambda: now_s)
    link = DummyLink(window=2)
    publisher = announced(link)
    publisher.tick()
    assert publisher.acknowledged_kbps(now_s) is None
    for _ in range(40):
        publisher.send_detection("cam-1", bytes(1000 - len("changeover/v1/box-7/stream/cam-1/replay")))
    for _ in range(16):
        publisher.tick()
        now_s += 0.5
        publisher.send_detection("cam-1", bytes(1000 - len("changeover/v1/box-7/stream/cam-1/replay")))
        link.acknowledge()
    rate = publisher.acknowledged_kbps(now_s)
    assert rate is not None
    assert 14 <= rate <= 18, "two messages of 1000 bytes a second"
    link.connect(0)
    publisher.tick()
    assert publisher.acknowledged_kbps(now_s) is None, "without a link nothing is known"


@pytest.mark.parametrize("topic", [READY, TOPICS.status, TOPICS.of_line("line-1", "phase")])
def test_only_the_answer_to_the_newest_message_of_a_state_counts(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("agent.mqtt.publishing.publisher.monotonic", lambda: now_s)
    link = DummyLink()
    publisher = announced(link)
    for value in (b"0", b"18", b"0"):
        publisher.send_state(topic, value)
    for outcome in (Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.LATER):
        link.acknowledge(outcome)
    now_s += 3
    publisher.tick()
    assert [payload for _, payload in link.wire] == [b"0", b"18", b"0", b"0"], "the broker still has 18"
    link.acknowledge()
    now_s += 10
    publisher.tick()
    assert (len(link.wire), link.given_up) == (4, [])


@pytest.mark.parametrize("topic", [READY, TOPICS.status])
def test_what_a_plant_waits_for_is_said_again_within_seconds_however_long_it_is_refused(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("agent.mqtt.publishing.publisher.monotonic", lambda: now_s)
    link = DummyLink()
    publisher = announced(link)
    publisher.send_state(topic, b"17")
    said_s: list[float] = []
    answered = 0
    while now_s < 400:
        while link.in_flight:
            is_it = topic.endswith(f"/{link.wire[answered][0]}")
            said_s += [now_s] * is_it
            link.acknowledge(Outcome.LATER if is_it else Outcome.ACCEPTED)
            answered += 1
        now_s += 0.5
        publisher.send_event(TOPICS.of_device("alert"), b"e")
        publisher.tick()
    assert topic in link.denied, "others are accepted, so this topic no longer holds them up"
    assert max(later_s - earlier_s for earlier_s, later_s in itertools.pairwise([*said_s, now_s])) <= 3
