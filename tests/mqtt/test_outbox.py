"""The outbox's bounds and order, in memory alone."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.outbox.sqlite_store import Bounds


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(max_bytes: int = 1 << 20, max_age_s: float = 3600, clock: Callable[[], float] | None = None) -> Outbox:
    return Outbox(Bounds(max_bytes, max_age_s), clock=clock or Clock())


def keep(outbox: Outbox, number: int, size_bytes: int = 100, kind: Kind = Kind.DETECTION) -> None:
    outbox.keep(kind, message(number, size_bytes))


def message(number: int, size_bytes: int = 100) -> OutgoingMessage:
    return OutgoingMessage(str(number), bytes(size_bytes))


def take_all(outbox: Outbox, kind: Kind = Kind.DETECTION) -> list[int]:
    taken = []
    while (entry := outbox.next(kind)) is not None:
        taken.append(int(entry.message.topic))
    return taken


def test_the_oldest_go_first_by_bytes_and_are_counted() -> None:
    outbox = make(10_000)
    for number in range(20):
        keep(outbox, number, 1000)
    assert outbox.dropped(Kind.DETECTION) == 20 - outbox.depth(Kind.DETECTION)
    assert outbox.size_bytes <= 10_000
    assert take_all(outbox) == list(range(outbox.dropped(Kind.DETECTION), 20))


def test_the_oldest_go_first_by_age_and_are_counted() -> None:
    clock = Clock()
    outbox = make(max_age_s=60, clock=clock)
    keep(outbox, 0)
    clock.now_s = 50
    keep(outbox, 1)
    assert outbox.oldest_age_s == 50
    clock.now_s = 70
    outbox.tick(is_in_doubt=True)
    assert (outbox.depth(Kind.DETECTION), outbox.dropped(Kind.DETECTION)) == (1, 1)
    assert outbox.oldest_age_s == 20


def test_detections_never_push_out_events_and_summaries_go_in_between() -> None:
    outbox = make(10_000)
    for number in range(3):
        keep(outbox, number, 1000, Kind.EVENT)
        keep(outbox, number, 1000, Kind.SUMMARY)
    for number in range(50):
        keep(outbox, number, 1000)
    assert (outbox.dropped(Kind.EVENT), outbox.dropped(Kind.SUMMARY)) == (0, 0)
    for number in range(3, 7):
        keep(outbox, number, 1000, Kind.EVENT)
    assert (outbox.dropped(Kind.DETECTION), outbox.dropped(Kind.SUMMARY), outbox.dropped(Kind.EVENT)) == (50, 2, 0)
    assert take_all(outbox, Kind.EVENT) == list(range(7))


def test_taken_ones_count_until_acknowledged() -> None:
    outbox = make()
    keep(outbox, 0)
    entry = outbox.next(Kind.DETECTION)
    assert entry is not None
    assert outbox.depth(Kind.DETECTION) == 1
    assert not outbox.has_unsent
    assert outbox.size_bytes == entry.size_bytes
    outbox.acknowledged(entry)
    assert (outbox.depth(Kind.DETECTION), outbox.size_bytes) == (0, 0)
    outbox.back()
    assert outbox.next(Kind.DETECTION) is None


def test_what_is_larger_than_the_bound_is_dropped() -> None:
    outbox = make(1000)
    keep(outbox, 0, 2000)
    assert (outbox.depth(Kind.DETECTION), outbox.dropped(Kind.DETECTION), outbox.size_bytes) == (0, 1, 0)


@given(st.lists(st.sampled_from(["keep", "lend", "next", "acknowledge", "release", "back"]), max_size=60))
def test_each_message_comes_in_order_and_none_is_lost(steps: list[str]) -> None:
    outbox = make(1 << 30)
    taken: list[OutboxItem] = []
    done: set[int] = set()
    count = 0
    for step in steps:
        if step == "keep":
            keep(outbox, count)
            count += 1
        elif step == "lend":
            taken.append(outbox.track_in_flight(Kind.DETECTION, message(count)))
            count += 1
        elif step == "next" and (entry := outbox.next(Kind.DETECTION)) is not None:
            taken.append(entry)
        elif step == "acknowledge" and taken:
            entry = taken.pop(0)
            outbox.acknowledged(entry)
            done.add(int(entry.message.topic))
        elif step == "release" and taken:
            outbox.release(taken.pop())
        elif step == "back":
            outbox.back()
            taken.clear()
    assert outbox.depth(Kind.DETECTION) == count - len(done)
    outbox.back()
    assert take_all(outbox) == [number for number in range(count) if number not in done]
