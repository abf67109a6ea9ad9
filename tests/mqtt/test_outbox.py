"""The outbox's bounds and order."""

from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.outbox import Entry, Outbox
from agent.mqtt.outgoing import Outgoing


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def keep(outbox: Outbox, seq: int, stream: str = "cam-1", size_bytes: int = 100) -> None:
    outbox.keep(stream, seq, Outgoing("topic", bytes(size_bytes)))


def take_all(outbox: Outbox) -> list[Entry]:
    taken = []
    while (entry := outbox.next()) is not None:
        taken.append(entry)
    return taken


def test_the_oldest_go_first_by_bytes_and_are_counted() -> None:
    clock = Clock()
    outbox = Outbox(10_000, 3600, clock)
    for seq in range(20):
        clock.now_s = seq
        keep(outbox, seq, stream=f"cam-{seq % 2}", size_bytes=1000)
    assert outbox.dropped == 20 - outbox.depth
    assert outbox.size_bytes <= 10_000
    assert [entry.seq for entry in take_all(outbox)] == list(range(20 - outbox.depth, 20))


def test_the_oldest_go_first_by_age_and_are_counted() -> None:
    clock = Clock()
    outbox = Outbox(1 << 20, 60, clock)
    keep(outbox, 0)
    clock.now_s = 50
    keep(outbox, 1)
    assert outbox.oldest_age_s == 50
    clock.now_s = 70
    outbox.expire()
    assert (outbox.depth, outbox.dropped) == (1, 1)
    assert outbox.oldest_age_s == 20


def test_taken_ones_count_until_acknowledged() -> None:
    outbox = Outbox(1 << 20, 3600)
    keep(outbox, 0)
    entry = outbox.next()
    assert entry is not None
    assert (outbox.depth, outbox.waiting) == (1, 0)
    assert outbox.size_bytes == entry.size_bytes
    outbox.acknowledged(entry)
    assert (outbox.depth, outbox.size_bytes) == (0, 0)
    outbox.back()
    assert outbox.next() is None


def test_what_is_larger_than_the_bound_is_dropped() -> None:
    outbox = Outbox(1000, 3600)
    keep(outbox, 0, size_bytes=2000)
    assert (outbox.depth, outbox.dropped, outbox.size_bytes) == (0, 1, 0)


@given(st.lists(st.sampled_from(["keep", "lend", "next", "acknowledge", "back"]), max_size=60))
def test_each_message_comes_in_order_of_seq_and_none_is_lost(steps: list[str]) -> None:
    clock = Clock()
    outbox = Outbox(1 << 30, 3600, clock)
    taken: list[Entry] = []
    done: set[int] = set()
    seq = 0
    for step in steps:
        clock.now_s += 1
        if step == "keep":
            keep(outbox, seq)
            seq += 1
        elif step == "lend":
            taken.append(outbox.lend("cam-1", seq, Outgoing("topic", b"")))
            seq += 1
        elif step == "next" and (entry := outbox.next()) is not None:
            taken.append(entry)
        elif step == "acknowledge" and taken:
            entry = taken.pop(0)
            outbox.acknowledged(entry)
            done.add(entry.seq)
        elif step == "back":
            outbox.back()
            taken.clear()
    assert outbox.depth == seq - len(done)
    outbox.back()
    left = [entry.seq for entry in take_all(outbox)]
    assert left == [number for number in range(seq) if number not in done]
