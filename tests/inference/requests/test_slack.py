"""Requests get the time between the lines' frames, and no other."""

import random
import threading
from collections.abc import Callable

import pytest
from support.waiting import until

from agent.inference.comparing.share import is_of_share
from agent.inference.serving.slack import Gap, Slack

MS = 1_000_000
DEADLINE_S = 60.0
PERIOD = 100 * MS


class Clock:
    """A clock that a test sets, in ns."""

    def __init__(self) -> None:
        self.ns = 10_000 * MS

    def __call__(self) -> int:
        return self.ns


def paced(
    frames: int = 4, is_waiting: Callable[[], bool] = lambda: False, takes_ms: int = 0, guests: int = 0
) -> tuple[Slack, Clock]:
    """Return the slack of one stream whose frames came each 100 ms, the last of them answered now.

    After the first ten, `guests` frames were beside guests for a tenth of their time, and as much longer.
    """
    clock = Clock()
    slack = Slack(clock)
    slack.add("cam-1", is_waiting)
    offered_ns = clock.ns
    for number in range(frames):
        has_guest = 0 <= number - 10 < guests
        began_ns, overlap_ns = clock.ns, takes_ms * MS // 10 if has_guest else 0
        if has_guest:
            assert slack.wait(0, clock.ns) is Gap.FOUND
        offered_ns += PERIOD
        clock.ns = offered_ns
        slack.began("cam-1", number, offered_ns)
        clock.ns += overlap_ns
        if has_guest:
            slack.spent(began_ns)
        clock.ns += takes_ms * MS
        slack.ended("cam-1", number)
    return slack, clock


def fits(slack: Slack, clock: Clock, needed_ms: float) -> bool:
    """Say whether a request may begin now; it does not."""
    found = slack.wait(needed_ms * MS, clock.ns) is Gap.FOUND
    if found:
        slack.unused()
    return found


def test_without_frames_a_request_begins_at_once() -> None:
    assert fits(Slack(), Clock(), 5000)


def test_a_request_that_ends_before_the_next_frame_begins_and_a_longer_one_does_not() -> None:
    slack, clock = paced()
    clock.ns += 30 * MS
    assert fits(slack, clock, 70)
    assert not fits(slack, clock, 71)


def test_nothing_begins_beside_a_frame_or_before_one_that_is_late() -> None:
    slack, clock = paced()
    clock.ns += PERIOD
    slack.began("cam-1", 4, clock.ns)
    assert not fits(slack, clock, 1)
    slack.ended("cam-1", 4)
    assert fits(slack, clock, 1)
    clock.ns += PERIOD + 20 * MS
    assert not fits(slack, clock, 1)


def test_nothing_begins_while_a_frame_waits_in_its_slot() -> None:
    waits = True
    slack, clock = paced(is_waiting=lambda: waits)
    clock.ns += 10 * MS
    assert not fits(slack, clock, 1)
    waits = False
    assert fits(slack, clock, 1)


def test_a_gap_has_one_guest() -> None:
    slack, clock = paced()
    deadline_ns = clock.ns + 3_600_000 * MS
    assert slack.wait(10 * MS, clock.ns) is Gap.FOUND
    assert slack.wait(10 * MS, clock.ns) is Gap.NONE
    found: list[Gap] = []
    other = threading.Thread(target=lambda: found.append(slack.wait(10 * MS, deadline_ns)))
    other.start()
    slack.spent(clock.ns - 10 * MS)
    other.join(DEADLINE_S)
    assert found == [Gap.FOUND]


def test_a_guest_that_hangs_keeps_others_waiting_for_a_while_only() -> None:
    clock = Clock()
    slack = Slack(clock)
    assert slack.wait(500 * MS, clock.ns) is Gap.FOUND
    clock.ns += 1000 * MS
    assert not fits(slack, clock, 1)
    clock.ns += 101 * MS
    assert fits(slack, clock, 1)


@pytest.mark.parametrize("is_used", [True, False])
def test_a_guest_that_ends_late_gives_back_no_gap_of_another(*, is_used: bool) -> None:
    clock = Clock()
    slack = Slack(clock)
    assert slack.wait(10 * MS, clock.ns) is Gap.FOUND
    began_ns = clock.ns
    clock.ns += 200 * MS
    found: list[Gap] = []
    other = threading.Thread(target=lambda: found.append(slack.wait(10 * MS, clock.ns)))
    other.start()
    other.join(DEADLINE_S)
    assert found == [Gap.FOUND]
    if is_used:
        slack.spent(began_ns)
    else:
        slack.unused()
    assert not fits(slack, clock, 1)


def test_a_stream_that_stands_keeps_nobody_waiting() -> None:
    slack, clock = paced()
    clock.ns += 10 * PERIOD
    assert fits(slack, clock, 5000)


def test_frames_that_were_dropped_do_not_lengthen_the_period() -> None:
    slack, clock = paced()
    for number in (9, 14):
        clock.ns += 5 * PERIOD
        slack.began("cam-1", number - 1, clock.ns)
        slack.ended("cam-1", number - 1)
    assert not slack.has_room(150 * MS)
    assert slack.has_room(99 * MS)


def test_a_request_may_make_a_frame_late_by_a_tenth_of_it_and_three_quarters_of_the_gap() -> None:
    slack, clock = paced(takes_ms=20, frames=64, guests=8)
    assert fits(slack, clock, 82)
    assert not fits(slack, clock, 82.1)
    slack, clock = paced(takes_ms=90, frames=64, guests=8)
    assert fits(slack, clock, 17.5)
    assert not fits(slack, clock, 17.6)


def test_one_that_costs_a_frame_its_time_again_is_tried_while_it_is_unknown_what_guests_cost() -> None:
    slack, clock = paced(takes_ms=60, frames=64)
    assert slack.has_room(99.9 * MS)
    assert fits(slack, clock, 99.9)
    assert not fits(slack, clock, 100.1)


def two_at_once(frames: int, *, is_paced: bool = True) -> tuple[Slack, Clock, int]:
    """Have a guest of 85 ms ask after each frame of 80 ms, 16 at first aside, which lose 2 ms beside it of 20 ms a gap.

    Return how many began. Each fourth frame takes 84 ms.
    """
    clock = Clock()
    slack = Slack(clock)
    slack.add("cam-1", lambda: False, is_paced=is_paced)
    began = 0
    for number in range(frames):
        is_guest = number >= 16 and slack.wait(85 * MS, clock.ns) is Gap.FOUND
        began, began_ns, offered_ns = began + is_guest, clock.ns, clock.ns + 20 * MS
        slack.began("cam-1", number, offered_ns)
        if is_guest:
            clock.ns = began_ns + 85 * MS
            slack.spent(began_ns)
        natural_ms = 84 if number % 4 == 0 else 80
        clock.ns = offered_ns + (natural_ms + 2 * is_guest) * MS
        slack.ended("cam-1", number)
        clock.ns = offered_ns + 80 * MS
    return slack, clock, began


def test_where_frames_lose_little_beside_guests_these_begin_in_gaps_that_are_too_short() -> None:
    assert two_at_once(216)[2] > 160


def test_where_frames_lose_hardly_any_time_guests_begin_beside_them_and_are_of_any_length() -> None:
    slack, clock, _ = two_at_once(216)
    slack.began("cam-1", 216, clock.ns + 20 * MS)
    clock.ns += 40 * MS
    assert fits(slack, clock, 85)
    assert fits(slack, clock, 850)
    slack.add("cam-2", lambda: False)
    for number in range(4):
        slack.began("cam-2", number, clock.ns)
        assert not fits(slack, clock, 10)
        slack.ended("cam-2", number)


def test_a_guest_that_began_beside_a_frame_is_beside_it_from_then_on() -> None:
    slack, clock, _ = two_at_once(216)
    for number in range(216, 256):
        offered_ns = clock.ns + 20 * MS
        slack.began("cam-1", number, offered_ns)
        clock.ns = offered_ns + 75 * MS
        if slack.wait(10 * MS, clock.ns) is Gap.FOUND:
            clock.ns += 10 * MS
            slack.spent(offered_ns + 75 * MS)
        slack.ended("cam-1", number)  # late by 5 of the 10 ms that both had in common
        clock.ns = offered_ns + 80 * MS
    assert not slack.has_room(850 * MS)


@pytest.mark.parametrize("frames", [1, 8, 64, 600])
def test_a_guest_beside_many_frames_does_not_make_them_the_usual_ones(frames: int) -> None:
    slack, clock, _ = two_at_once(600)
    assert slack.wait(frames * 100 * MS, clock.ns) is Gap.FOUND
    began_ns = clock.ns
    for number in range(600, 600 + frames + 1):
        offered_ns = clock.ns + 20 * MS
        slack.began("cam-1", number, offered_ns)
        clock.ns = offered_ns + (80 if number == 600 + frames else 98) * MS
        slack.ended("cam-1", number)
        clock.ns = offered_ns + 80 * MS
        if number == 600 + frames - 1:
            slack.spent(began_ns, offered_ns + 79 * MS)
    assert not fits(slack, clock, 85), "because they were 18 ms late, not 8 as they may be"


def test_a_guest_that_hangs_makes_frames_alone_no_less_so_for_ever() -> None:
    slack, clock, _ = two_at_once(600)
    assert slack.wait(100 * MS, clock.ns) is Gap.FOUND
    found = [guest(slack, clock, number, 80) for number in range(600, 700)]
    assert found[0] is Gap.NONE
    assert found[-1] is Gap.FOUND


@pytest.mark.parametrize("may_delay", [False, True])
def test_a_frame_without_a_guest_is_awaited_where_guests_begin_beside_frames(*, may_delay: bool) -> None:
    slack, clock, _ = two_at_once(216)
    has_guest: list[bool] = []
    for number in range(216, 296):
        offered_ns = clock.ns + 20 * MS
        slack.began("cam-1", number, offered_ns)
        clock.ns = offered_ns + 40 * MS
        has_guest.append(slack.wait(10 * MS, clock.ns, may_delay=may_delay) is Gap.FOUND)
        clock.ns += 10 * MS
        if has_guest[-1]:
            slack.spent(offered_ns + 40 * MS)
        clock.ns = offered_ns + 80 * MS
        slack.ended("cam-1", number)
    assert 0 < has_guest.count(False) <= 4


def test_beside_a_stream_without_a_pace_guests_begin_at_no_frame_whatever_it_loses() -> None:
    slack, clock, _ = two_at_once(2400, is_paced=False)
    slack.began("cam-1", 2400, clock.ns + 20 * MS)
    clock.ns += 100 * MS
    slack.ended("cam-1", 2400)  # alone, so that none is awaited
    slack.began("cam-1", 2401, clock.ns + 20 * MS)
    clock.ns += 40 * MS
    assert not fits(slack, clock, 850)


def test_there_is_no_room_for_what_is_longer_than_the_usual_gap() -> None:
    slack, clock = paced(takes_ms=60, frames=64, guests=8)
    assert slack.has_room(45.9 * MS)
    assert not slack.has_room(46.1 * MS)
    clock.ns += 40 * MS
    slack.began("cam-1", 64, clock.ns)
    clock.ns += 90 * MS  # one slow frame
    slack.ended("cam-1", 64)
    assert slack.has_room(45.9 * MS)
    assert not slack.has_room(46.1 * MS)


def test_a_frame_that_was_given_up_tells_nothing_of_how_long_frames_take() -> None:
    slack, clock = paced(takes_ms=60, frames=64, guests=8)
    for number in range(64, 128):
        clock.ns += 40 * MS
        slack.began("cam-1", number, clock.ns)
        slack.ended("cam-1", number, is_inferred=False)
        clock.ns += 60 * MS
    assert not slack.has_room(46.1 * MS)
    assert fits(slack, clock, 45.9)


@pytest.mark.parametrize("step_ms", [-100, 0, 200])
def test_impossible_times_of_a_camera_raise_nothing(step_ms: int) -> None:
    """It is another process, which writes them; half of the frames are beside a guest."""
    slack, clock = paced(frames=0)
    offered_ns = clock.ns + 300 * MS
    for number in range(64):
        offered_ns += step_ms * MS
        slack.began("cam-1", number, offered_ns)
        began_ns, is_guest = clock.ns, slack.wait(0, clock.ns, may_delay=True) is Gap.FOUND
        slack.ended("cam-1", number)
        is_guest = is_guest or slack.wait(0, clock.ns, may_delay=True) is Gap.FOUND
        clock.ns += 100 * MS
        if is_guest:
            slack.spent(began_ns)
    assert slack.wait(0, clock.ns) in set(Gap)


def test_a_torn_frame_ends_no_other_one_in_flight() -> None:
    slack, clock = paced(takes_ms=60, frames=64)
    clock.ns += 40 * MS
    slack.began("cam-1", 64, clock.ns)
    clock.ns += PERIOD
    slack.began("cam-1", 65, clock.ns)
    slack.ended("cam-1", 65, is_inferred=False)
    assert not fits(slack, clock, 1)
    slack.ended("cam-1", 64)
    assert fits(slack, clock, 90)


def test_another_model_of_the_line_begins_an_account_of_its_own() -> None:
    slack, clock = paced(takes_ms=60, frames=64)
    clock.ns += 40 * MS
    slack.began("cam-1", 64, clock.ns, "other")
    clock.ns += 20 * MS
    slack.ended("cam-1", 64)
    assert slack.has_room(82 * MS)


def guest(slack: Slack, clock: Clock, number: int, frame_ms: int, *, may_delay: bool = False) -> Gap:
    """Have a request of 30 ms ask after a frame of 60 ms, and the next frame take `frame_ms` where it began."""
    found = slack.wait(30 * MS, clock.ns, may_delay=may_delay)
    began_ns = clock.ns
    clock.ns += 30 * MS if found is Gap.FOUND else 0
    if found is Gap.FOUND:
        slack.spent(began_ns)
    clock.ns = began_ns + 40 * MS
    slack.began("cam-1", number, clock.ns)
    clock.ns += (frame_ms if found is Gap.FOUND else 60) * MS
    slack.ended("cam-1", number)
    clock.ns = began_ns + 100 * MS
    return found


def test_where_guests_make_frames_slow_they_get_fewer_gaps() -> None:
    slack, clock = paced(takes_ms=60, frames=64)
    found = [guest(slack, clock, 64 + number, 72) for number in range(200)]
    assert found.count(Gap.FOUND) < 10
    assert found.count(Gap.UNPAID) == 200 - found.count(Gap.FOUND)
    slack, clock = paced(takes_ms=60, frames=64)
    found = [guest(slack, clock, 64 + number, 62) for number in range(200)]
    assert found.count(Gap.FOUND) > 190


def beside(frames: int, slower_ms: float, guest_ms: float) -> tuple[int, list[float]]:
    """Have a guest ask after each frame of a line of 110 frames/s; return how many began, and the frames' times in ms.

    A frame after a guest is slower, because the guest's client works meanwhile.
    """
    clock = Clock()
    slack = Slack(clock)
    slack.add("cam-1", lambda: False)
    began, has_guest, took, first_ns = 0, False, [], clock.ns
    for number in range(frames):
        offered_ns = first_ns + number * 9 * MS
        clock.ns = max(clock.ns, offered_ns)
        slack.began("cam-1", number, offered_ns)
        natural_ms = 4.2 + random.gauss(0, 0.2) + 2 * (random.random() < 0.04)
        clock.ns += int((natural_ms + slower_ms * has_guest) * MS)
        slack.ended("cam-1", number)
        took.append((clock.ns - offered_ns) / MS)
        has_guest = number >= 600 and slack.wait(guest_ms * MS, clock.ns) is Gap.FOUND
        began += has_guest
        if has_guest:
            began_ns = clock.ns
            clock.ns += int((guest_ms + random.gauss(0, 0.3)) * MS)
            slack.spent(began_ns)
    return began, took


@pytest.mark.parametrize(("slower_ms", "guest_ms"), [(0, 4.5), (0.6, 4.5), (0, 5.4), (0.6, 5.4), (2, 4.5)])
def test_beside_a_busy_client_the_slow_frames_stay_as_slow_as_they_are(slower_ms: float, guest_ms: float) -> None:
    random.seed(11)
    began, took = beside(4600, slower_ms, guest_ms)
    alone, then = sorted(took[:600]), sorted(took[600:])
    assert then[int(0.99 * 4000)] < 1.15 * alone[int(0.99 * 600)]
    assert sum(then) / 4000 < 1.21 * sum(alone) / 600
    assert began > 0.1 * 4000


def test_a_guest_that_may_delay_frames_begins_without_a_gap_or_an_account() -> None:
    slack, clock = paced(takes_ms=60, frames=64)
    found = [guest(slack, clock, 64 + number, 90, may_delay=True) for number in range(20)]
    assert found == ([Gap.FOUND] * 4 + [Gap.UNPAID]) * 4, "because the line may have become slower"
    assert slack.wait(30 * MS, clock.ns) is Gap.UNPAID
    clock.ns += 39 * MS
    assert slack.wait(50 * MS, clock.ns, may_delay=True) is Gap.FOUND


def test_a_guest_that_ends_long_before_the_next_frame_is_not_to_blame_for_it() -> None:
    slack, clock = paced(takes_ms=1, frames=64)
    found = []
    for number in range(64, 164):
        found.append(slack.wait(10 * MS, clock.ns))
        clock.ns += 10 * MS
        if found[-1] is Gap.FOUND:
            slack.spent(clock.ns - 10 * MS)
        clock.ns += PERIOD - 11 * MS
        slack.began("cam-1", number, clock.ns)
        took = (30 if number % 4 == 0 else 1) * MS  # a busy machine
        clock.ns += took
        slack.ended("cam-1", number)
        clock.ns += MS - took
    assert set(found) == {Gap.FOUND}


def test_what_guests_cost_closes_no_gap_that_ends_long_after_them() -> None:
    slack, clock = paced(takes_ms=60, frames=64)
    while guest(slack, clock, 64, 90) is Gap.FOUND:
        pass
    assert slack.wait(21 * MS, clock.ns) is Gap.UNPAID
    assert slack.wait(19 * MS, clock.ns) is Gap.FOUND


def test_a_gap_is_too_short_only_as_a_whole() -> None:
    slack, clock = paced(takes_ms=40)
    clock.ns += 30 * MS
    assert slack.wait(50 * MS, clock.ns) is Gap.NONE
    assert slack.wait(66 * MS, clock.ns) is Gap.TOO_SHORT
    clock.ns += 30 * MS
    slack.began("cam-1", 4, clock.ns)
    assert slack.wait(66 * MS, clock.ns) is Gap.NONE


def test_a_wait_for_the_tenth_makes_no_gap_too_short() -> None:
    slack, clock = unpaced()
    slack.ended("file", 3)
    slack.spent(clock.ns - 20 * MS)
    assert slack.wait(150 * MS, clock.ns) is Gap.NONE


def test_the_nearest_frame_of_all_streams_counts() -> None:
    slack, clock = paced()
    slack.add("cam-2", lambda: False)
    for number in range(3):
        slack.began("cam-2", number, clock.ns - (3 - number) * 40 * MS + 20 * MS)
        slack.ended("cam-2", number)
    assert fits(slack, clock, 19)
    assert not fits(slack, clock, 25)


def test_a_waiting_request_begins_when_the_frame_is_answered_and_ends_at_the_stop() -> None:
    slack, clock = paced()
    slack.began("cam-1", 4, clock.ns)
    began: list[Gap] = []
    thread = threading.Thread(target=lambda: began.append(slack.wait(MS, clock.ns + 3_600_000 * MS)))
    thread.start()
    slack.ended("cam-1", 4)
    until(lambda: began == [Gap.FOUND])
    slack.spent(clock.ns - MS)
    slack.began("cam-1", 5, clock.ns)
    other = threading.Thread(target=lambda: began.append(slack.wait(MS, clock.ns + 3_600_000 * MS)))
    other.start()
    slack.stop()
    until(lambda: began == [Gap.FOUND, Gap.NONE])
    for one in (thread, other):
        one.join()


def unpaced() -> tuple[Slack, Clock]:
    """Return the slack beside one stream without a pace, a frame of which is always under way."""
    clock = Clock()
    slack = Slack(clock)
    slack.add("file", lambda: True, is_paced=False)
    for number in range(4):
        clock.ns += PERIOD
        slack.began("file", number, clock.ns)
    return slack, clock


def test_beside_a_stream_without_a_pace_requests_get_a_tenth_of_the_time() -> None:
    slack, clock = unpaced()
    assert fits(slack, clock, 150)
    slack.spent(clock.ns - 20 * MS)
    assert not fits(slack, clock, 20)
    clock.ns += 179 * MS
    assert not fits(slack, clock, 20)
    clock.ns += 1 * MS
    assert fits(slack, clock, 20)


def test_a_paced_stream_beside_it_is_not_delayed() -> None:
    slack, clock = unpaced()
    slack.add("cam-1", lambda: False)
    for number in range(4):
        slack.began("cam-1", number, clock.ns - (3 - number) * PERIOD)
        slack.ended("cam-1", number)
    assert fits(slack, clock, 90)
    assert not fits(slack, clock, 150)
    assert not slack.has_room(150 * MS)


def canary(share: float, frames: int = 600) -> list[Gap]:
    """Return what a request of 10 ms finds after each of a canary's frames, when the comparison has had its turn.

    A comparison infers a candidate's frame once more where it may. Frames take 40 ms of 100, and 44 in the canary.
    """
    slack, clock = paced(takes_ms=40, frames=64)
    found = []
    for number in range(64, 64 + frames):
        offered_ns = clock.ns = clock.ns - clock.ns % PERIOD + PERIOD
        is_candidates = is_of_share(number, share)
        slack.began("cam-1", number, offered_ns)
        clock.ns += 44 * MS
        slack.ended("cam-1", number, is_inferred=not is_candidates)
        if is_candidates and slack.wait(0, clock.ns, may_delay=True) is Gap.FOUND:
            clock.ns += 20 * MS
            slack.spent(clock.ns - 20 * MS)
        found.append(slack.wait(10 * MS, clock.ns))
        if found[-1] is Gap.FOUND:
            clock.ns += 10 * MS
            slack.spent(clock.ns - 10 * MS)
    return found


@pytest.mark.parametrize("share", [0.5, 0.63, 0.7, 0.9, 1.0])
def test_beside_a_canary_of_any_share_requests_do_not_starve(share: float) -> None:
    assert canary(share)[-200:].count(Gap.FOUND) > 150


def slower_canary(share: float, frames: int) -> list[Gap]:
    """Return what a request of 10 ms finds after each frame from the one on which the line is 20 ms slower.

    A comparison infers a candidate's frame once more where it may, for 35 ms. Frames take 25 ms of 100 before, and 4
    more after either guest.
    """
    slack, clock = paced(takes_ms=25, frames=64)
    found: list[Gap] = []
    has_guest = False
    for number in range(64, 600 + frames):
        offered_ns = clock.ns = clock.ns - clock.ns % PERIOD + PERIOD
        is_candidates = is_of_share(number, share)
        slack.began("cam-1", number, offered_ns)
        clock.ns += ((25 if number < 600 else 45) + 4 * has_guest) * MS
        slack.ended("cam-1", number, is_inferred=not is_candidates)
        has_guest = is_candidates and slack.wait(35 * MS, clock.ns, may_delay=True) is Gap.FOUND
        if has_guest:
            clock.ns += 35 * MS
            slack.spent(clock.ns - 35 * MS)
        found.append(slack.wait(10 * MS, clock.ns))
        if found[-1] is Gap.FOUND:
            has_guest = True
            clock.ns += 10 * MS
            slack.spent(clock.ns - 10 * MS)
    return found[600 - 64 :]


@pytest.mark.parametrize("share", [0.5, 0.63, 0.8, 0.9])
def test_beside_a_canary_a_slower_line_is_known_within_some_hundred_frames(share: float) -> None:
    assert slower_canary(share, 1200)[-200:].count(Gap.FOUND) > 150


def test_a_request_that_needs_more_than_can_be_saved_is_told_so() -> None:
    clock = Clock()
    slack = Slack(clock)
    slack.add("cam-1", lambda: False)
    for number in range(128):
        clock.ns = 10_000 * MS + number * 20 * MS
        slack.began("cam-1", number, clock.ns)
        clock.ns += (15 if number % 5 == 4 else 5) * MS
        slack.ended("cam-1", number)
        found = slack.wait(20.5 * MS, clock.ns)
        assert number < 64 or found is not Gap.UNPAID
    assert not slack.has_room(20.1 * MS)
    assert slack.has_room(19.9 * MS)


def test_a_frame_that_stalled_tells_little_of_what_guests_cost() -> None:
    slack, clock = paced(takes_ms=40, frames=64)
    first_ns = clock.ns - 40 * MS - 63 * PERIOD
    for turn in range(16):
        clock.ns += PERIOD - (clock.ns - first_ns) % PERIOD - 20 * MS
        assert slack.wait(0, clock.ns, may_delay=True) is Gap.FOUND
        began_ns = clock.ns
        clock.ns += 20 * MS
        number = (clock.ns - first_ns) // PERIOD
        slack.began("cam-1", number, clock.ns)
        clock.ns += (9000 if turn == 6 else 20) * MS
        slack.spent(began_ns)
        clock.ns += 40 * MS
        slack.ended("cam-1", number)
    assert slack.has_room(64 * MS)
    assert not slack.has_room(65 * MS)


def test_a_gap_that_was_given_back_hides_no_guest_before_it() -> None:
    slack, clock = paced(takes_ms=40, frames=64)
    clock.ns += 50 * MS
    assert slack.wait(MS, clock.ns) is Gap.FOUND
    slack.spent(clock.ns - MS)
    assert fits(slack, clock, 1)
    clock.ns += 10 * MS
    slack.began("cam-1", 64, clock.ns)
    clock.ns += 90 * MS
    slack.ended("cam-1", 64)
    assert slack.wait(MS, clock.ns) is Gap.UNPAID


def test_frames_in_flight_are_counted_for_the_model_that_infers_them() -> None:
    slack, clock = paced(takes_ms=40, frames=64)
    clock.ns += 60 * MS
    slack.began("cam-1", 64, clock.ns)
    clock.ns += PERIOD
    slack.began("cam-1", 65, clock.ns, "other")
    slack.ended("cam-1", 64)
    assert slack.has_room(99 * MS), "of the other model nothing is known"
