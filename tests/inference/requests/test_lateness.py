"""Guests make a line's frames no later than its slow frames are by themselves, as the frames tell."""

import math
import random
from collections.abc import Callable
from itertools import cycle, pairwise

from agent.inference.serving.lateness import Lateness

MS = 1_000_000
PERIOD = 100 * MS


class Line:
    """A stream's frames, each 40 ms long without a guest; of guests it is known that they cost all their time."""

    def __init__(self, *alone_ms: float, is_known: bool = True) -> None:
        self.lateness = Lateness()
        self.ns = 0
        frames_ms = alone_ms or [40.0] * 256
        if is_known:
            for one in frames_ms[:8]:
                self.frame(one)
            usual_ms = self.lateness.usual_ns / MS
            for _ in range(8):
                self.frame(1.1 * usual_ms, is_after_guest=True, overlap_ms=0.1 * usual_ms)
        for one in frames_ms:
            self.frame(one)

    def frame(self, took_ms: float, *, is_after_guest: bool = False, overlap_ms: float = 0.0) -> None:
        self.ns += PERIOD
        times = self.ns, took_ms * MS
        self.lateness.frame(*times, is_after_guest=is_after_guest, overlap_ns=overlap_ms * MS)

    def reach_ms(self, period_ms: float = 100, *, saved: bool = False) -> float:
        return round(self.lateness.reach_ns(period_ms * MS, saved=saved) / MS, 3)

    def guests(self, frames: int, takes_ms: Callable[[bool], float]) -> list[bool]:
        """Offer frames, before each of which a guest begins where it may; return before which one did."""
        found = []
        for _ in range(frames):
            found.append(self.lateness.is_paid)
            self.frame(takes_ms(found[-1]), is_after_guest=found[-1])
        return found


def uneven() -> list[float]:
    """Return the times of frames, of which each tenth takes 50 ms, and each fiftieth 80."""
    return [80.0 if number % 50 == 0 else 50.0 if number % 10 == 1 else 40.0 for number in range(256)]


def test_where_frames_take_the_same_time_a_guest_may_add_a_tenth() -> None:
    assert Line().reach_ms() == 4


def test_a_guest_may_add_what_slow_frames_take_longer_without_one() -> None:
    assert Line(*uneven()).reach_ms() == 15
    one_stall = Line(*[40.0] * 63, 90.0)
    assert one_stall.reach_ms() == 4


def test_a_guest_adds_three_quarters_of_the_gap_at_most() -> None:
    assert Line().reach_ms(44) == 3
    assert Line().reach_ms(39) == 0


def test_while_guests_cost_more_than_a_fifth_on_the_average_none_begins() -> None:
    alone = cycle(uneven())
    found = Line(*uneven()).guests(1000, lambda has_guest: 56 if has_guest else next(alone))
    assert 490 <= sum(found) <= 520


def test_guests_that_cost_little_are_only_looked_behind_now_and_then() -> None:
    assert sum(Line().guests(1000, lambda has_guest: 43 if has_guest else 40)) > 960


def test_guests_make_a_hundredth_of_the_frames_slower_than_the_slowest_are_without() -> None:
    random.seed(5)
    line, slow, alone = Line(*uneven()), 0, cycle(uneven())

    def takes(has_guest: bool) -> float:  # noqa: FBT001
        nonlocal slow
        is_slow = has_guest and random.random() < 0.1
        slow += is_slow
        return 95 if is_slow else 41 if has_guest else next(alone)

    found = line.guests(4000, takes)
    assert 20 < slow < 40
    assert sum(found) > 200


def test_a_guest_reaches_no_further_than_was_saved() -> None:
    line = Line(*uneven())
    line.frame(78, is_after_guest=True)
    assert (line.reach_ms(), line.reach_ms(saved=True)) == (15, 2)
    line.frame(56, is_after_guest=True)
    assert not line.lateness.is_paid
    assert line.reach_ms(saved=True) == 0
    line.frame(40)
    assert line.lateness.is_paid


def test_after_a_slow_frame_guests_end_before_the_offer_for_a_while() -> None:
    line = Line()
    assert line.reach_ms(saved=True) == 4
    line.frame(47, is_after_guest=True)
    assert not line.lateness.is_paid
    for _ in range(40):
        line.frame(40)
    assert line.lateness.is_paid
    assert (line.reach_ms(), line.reach_ms(saved=True)) == (4, 0)
    for _ in range(140):
        line.frame(40)
    assert line.reach_ms(saved=True) == 4


def test_a_slow_time_keeps_guests_out_for_a_few_hundred_frames_only() -> None:
    line = Line()
    for _ in range(1000):
        line.frame(47, is_after_guest=True)
    assert not line.lateness.is_paid
    for _ in range(140):
        line.frame(40)
    assert line.lateness.is_paid


def test_beside_frames_that_lose_little_a_guest_reaches_further() -> None:
    line = Line()
    for number in range(32):
        line.frame(40 + number % 5, is_after_guest=True, overlap_ms=20)
    assert 38 < line.reach_ms() < 42
    for _ in range(32):
        line.frame(60, is_after_guest=True, overlap_ms=20)
    assert line.reach_ms() == 4


def test_beside_frames_that_hardly_lose_anything_a_guest_reaches_without_an_end() -> None:
    line = Line()
    for _ in range(32):
        line.frame(41, is_after_guest=True, overlap_ms=20)
    assert line.reach_ms(saved=True) == 40  # a tenth of the time lost is the least that is assumed
    line = Line(*[40.2 if number % 5 == 0 else 40.0 for number in range(256)])
    for _ in range(32):
        line.frame(41, is_after_guest=True, overlap_ms=20)
    assert line.reach_ms(saved=True) == 42.2  # beside a guest all its time a frame takes 44.4
    line = Line(*uneven())
    for _ in range(32):
        line.frame(41, is_after_guest=True, overlap_ms=20)
    assert line.reach_ms() == math.inf
    line.frame(78, is_after_guest=True)
    assert line.reach_ms(saved=True) < math.inf


def test_what_guests_cost_is_tried_while_it_is_unknown_and_all_is_saved() -> None:
    line = Line(is_known=False)
    assert line.reach_ms() == line.reach_ms(saved=True) == 40
    line.frame(41, is_after_guest=True, overlap_ms=40)
    assert line.reach_ms() == 40
    line.frame(80, is_after_guest=True, overlap_ms=40)
    assert line.reach_ms() == 4
    for _ in range(140):
        line.frame(40)
    assert line.reach_ms(saved=True) == 40
    line.frame(80, is_after_guest=True, overlap_ms=41)  # three frames' time tells enough
    for _ in range(140):
        line.frame(40)
    assert 4 < line.reach_ms(saved=True) < 8


def test_guests_that_cost_all_their_time_are_tried_seldom() -> None:
    line, tried = Line(is_known=False), list[int]()
    for number in range(1000):
        is_tried = line.reach_ms(saved=True) == 40
        tried += [number] * is_tried
        line.frame(80 if is_tried else 40, is_after_guest=is_tried, overlap_ms=40 * is_tried)
    assert len(tried) == 4
    assert all(later - one > 100 for one, later in pairwise(tried))


def test_few_frames_tell_nothing() -> None:
    line = Line(is_known=False)
    for _ in range(7):
        line.frame(41, is_after_guest=True, overlap_ms=5)
    line.frame(40, is_after_guest=True, overlap_ms=1)
    line.frame(60, is_after_guest=True)  # so that nothing is tried
    assert line.reach_ms() == 4
    unknown = Lateness()
    assert unknown.is_paid
    assert unknown.reach_ns(PERIOD) == 0
    unknown.frame(PERIOD, 40 * MS, is_after_guest=True, overlap_ns=0)
    assert unknown.usual_ns == 40 * MS


def test_frames_inside_a_long_guest_do_not_count_as_alone() -> None:
    line = Line()
    began_ns = line.ns + 50 * MS
    for _ in range(20):
        line.frame(90)
    line.lateness.guest_ran(began_ns)
    line.frame(40)
    assert line.reach_ms() == 4
    assert not line.lateness.is_paid


def test_a_line_that_became_slow_is_known_after_the_guests_paused() -> None:
    random.seed(3)
    found = Line().guests(1000, lambda has_guest: 60 + random.random() + 2 * has_guest)
    assert sum(found[-100:]) > 80


def test_a_guest_reaches_no_further_than_can_ever_be_saved() -> None:
    line = Line(*[150.0 if number % 5 == 0 else 50.0 for number in range(256)])
    assert (line.reach_ms(200), line.reach_ms(200, saved=True)) == (50, 50)


def test_one_frame_that_stalled_keeps_guests_out_for_a_while_only() -> None:
    line = Line(*[10.0] * 64)
    line.frame(1000, is_after_guest=True)
    frames = 0
    while not line.lateness.is_paid:
        line.frame(10)
        frames += 1
    assert 30 <= frames <= 40


def test_frames_that_the_lines_model_does_not_infer_pay_as_well() -> None:
    line = Line()
    line.frame(80, is_after_guest=True)
    line.frame(80, is_after_guest=True)
    for _ in range(140):
        line.lateness.untimed_frame(is_after_guest=True)
    assert line.lateness.is_paid


def test_frames_beside_a_guest_that_overran_its_gap_are_charged_with_what_they_took_beyond_those_before_it() -> None:
    line = Line(*uneven())
    reach_ms, began_ns = line.reach_ms(), line.ns
    for _ in range(100):
        line.frame(60)
    line.lateness.guest_ran(began_ns)
    assert line.lateness.usual_ns == 40 * MS
    assert line.reach_ms() == reach_ms
    assert not any(line.guests(20, lambda _: 40.0))


def test_a_frame_without_a_guest_is_awaited_while_the_lines_model_infers_some() -> None:
    line = Line()
    for _ in range(32):
        line.frame(40, is_after_guest=True)
    assert line.lateness.awaits_frame
    for _ in range(99):
        line.lateness.untimed_frame(is_after_guest=False)
    assert line.lateness.awaits_frame
    line.lateness.untimed_frame(is_after_guest=False)
    assert not line.lateness.awaits_frame
    assert line.lateness.is_paid
