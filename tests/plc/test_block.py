"""The PLC's block against a link that holds messages: none counts as younger than it is."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from plc.block import Inputs, VisionInterlock

CYCLE_MS = 20
RULE_MS = 3000


class Bench:
    """One block, its cycles, and the messages that arrive."""

    def __init__(self, product: str = "A") -> None:
        self.block = VisionInterlock()
        self.product = product
        self.connected = True
        self.now_ms = 0

    def message(self, live: str, *, retained: bool = False) -> bool:
        return self.block.scan(Inputs(self.connected, True, retained, live, self.product), self.now_ms)

    def until(self, now_ms: int) -> list[bool]:
        """Let cycles without a message pass."""
        found = []
        while self.now_ms < now_ms:
            self.now_ms += CYCLE_MS
            found.append(self.block.scan(Inputs(self.connected, False, False, "", self.product), self.now_ms))
        return found

    def beats(self, live: str, count: int) -> bool:
        """Hear `live` each second; return whether the belt ran all the time from the second one on."""
        ran = []
        for number in range(count):
            ran.append(self.message(live) or not number)
            ran += [one or not number for one in self.until(self.now_ms + 1000)]
        return all(ran)


def running() -> Bench:
    bench = Bench()
    assert bench.beats("A", 30)
    return bench


def test_the_second_heartbeat_starts_the_belt_and_silence_stops_it() -> None:
    bench = Bench()
    assert not bench.message("A"), "what comes first may have been retained"
    assert not any(bench.until(1000))
    assert bench.message("A")
    ran = bench.until(1000 + RULE_MS)
    assert ran.count(True) * CYCLE_MS == 1500 - CYCLE_MS, "it may have been sent when the first arrived"
    bench = running()
    bench.message("A")
    ran = bench.until(bench.now_ms + RULE_MS)
    assert ran.count(True) * CYCLE_MS == 2500 - CYCLE_MS


def test_one_lost_heartbeat_does_not_stop_the_belt() -> None:
    bench = running()
    assert all(bench.until(bench.now_ms + 1000)), "this one is lost"
    assert bench.message("A")
    assert all(bench.until(bench.now_ms + 1000))
    assert bench.message("A")


def test_zero_stops_at_once_also_in_one_cycle_with_the_product() -> None:
    bench = running()
    bench.message("A")
    assert not bench.message("0")
    assert not any(bench.until(bench.now_ms + 500))
    assert bench.message("A"), "a swap that takes no second delays nothing"


def test_another_product_stops_at_once_and_only_live_starts_it() -> None:
    bench = running()
    bench.product = "B"
    assert not any(bench.until(bench.now_ms + 40))
    assert not bench.message("A")
    assert not bench.message("0")
    assert bench.message("B")
    bench.product = "A"
    bench.until(bench.now_ms + 40)
    bench.product = "B"
    assert not any(bench.until(bench.now_ms + 40)), "what was said before the change and back says nothing"


def test_a_burst_of_what_was_held_starts_nothing() -> None:
    bench = running()
    bench.until(bench.now_ms + 8000)
    assert not any(bench.message("A") for _ in range(8))
    assert not any(bench.until(bench.now_ms + 20_000))


def test_a_burst_within_the_rule_adds_no_more_than_a_second_each() -> None:
    bench = running()
    bench.until(bench.now_ms + 1400)  # 2.4 s after the last one
    assert bench.message("A")
    ran = bench.until(bench.now_ms + 5000)
    assert ran.count(True) * CYCLE_MS <= 1200, "it was sent 1.4 s before"


def test_what_a_retained_live_says_starts_nothing_whether_or_not_the_library_tells() -> None:
    for told in (True, False):
        bench = running()
        bench.until(bench.now_ms + 5000)
        for _ in range(10):
            bench.connected = False
            bench.until(bench.now_ms + 200)
            bench.connected = True
            assert not bench.message("A", retained=told)
            assert not any(bench.until(bench.now_ms + 1000))


def test_a_retained_live_after_a_short_disconnect_does_not_undo_a_zero() -> None:
    bench = running()
    bench.message("0")
    bench.connected = False
    bench.until(bench.now_ms + 300)
    bench.connected = True
    assert not bench.message("A")
    assert not any(bench.until(bench.now_ms + 5000))


def test_a_short_disconnect_does_not_stop_the_belt() -> None:
    bench = running()
    bench.connected = False
    assert all(bench.until(bench.now_ms + 200))
    bench.connected = True
    assert bench.message("A")
    assert all(bench.until(bench.now_ms + 1000))
    assert bench.message("A")


def test_no_product_and_the_product_0_never_run() -> None:
    for product in ("", "0"):
        bench = Bench(product)
        for _ in range(4):
            assert not bench.message(product)
            assert not any(bench.until(bench.now_ms + 1000))


@dataclass(frozen=True)
class Sent:
    at_ms: int
    value: str


@st.composite
def plants(draw: st.DrawFn) -> tuple[list[Sent], list[tuple[int, int]], list[int]]:
    """Draw what a device sends (a heartbeat on a raster, changes, a death), when the link stands, and reconnects."""
    values = draw(st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from(["A", "0", "B"])), max_size=6))
    changes = sorted(values, key=lambda one: one[0])
    death_ms = draw(st.integers(500, 20_000))
    sent = []
    now = "A"
    for beat_ms in range(0, death_ms, 1000):
        while changes and changes[0][0] <= beat_ms:
            at_ms, value = changes.pop(0)
            if value != now:
                now = value
                sent.append(Sent(at_ms, value))
        # a loop that is late sends late, and keeps its raster
        sent.append(Sent(beat_ms + draw(st.integers(0, 200)), now))
    sent.sort(key=lambda one: one.at_ms)
    holds = [
        (begin, begin + length)
        for begin, length in draw(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 9000)), max_size=3))
    ]
    return sent, holds, sorted(draw(st.lists(st.integers(0, 25_000), max_size=3)))


@settings(max_examples=300)
@given(plants())
def test_the_belt_never_runs_on_a_message_older_than_the_rule(
    plant: tuple[list[Sent], list[tuple[int, int]], list[int]],
) -> None:
    sent, holds, reconnects = plant
    on_the_way = list(sent)
    bench = Bench()
    newest = Sent(-RULE_MS, "")
    while bench.now_ms < 35_000:
        bench.now_ms += CYCLE_MS
        bench.connected = not any(at_ms <= bench.now_ms < at_ms + 2 * CYCLE_MS for at_ms in reconnects)
        may_run = bench.block.scan(Inputs(bench.connected, False, False, "", bench.product), bench.now_ms)
        is_held = any(begin <= bench.now_ms < end for begin, end in holds)
        while not is_held and on_the_way and on_the_way[0].at_ms <= bench.now_ms:
            newest = on_the_way.pop(0)
            may_run = bench.message(newest.value)
        if may_run:
            assert newest.value == "A"
            assert bench.now_ms - newest.at_ms <= RULE_MS
