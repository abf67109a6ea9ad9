import random

import pytest

from agent.capture.pacer import Pacer


def play(pacer: Pacer, frames: int, late_s: float = 0.0) -> list[float]:
    """Deliver frames of a file, each `late_s` after it is due at most; return when."""
    chance = random.Random(1)
    now_s, delivered = 1000.0, []
    for _ in range(frames):
        now_s += pacer.left_s(now_s) + chance.uniform(0, late_s)
        pacer.step(now_s)
        delivered.append(now_s)
    return delivered


def follow(fps: float, arrivals_s: list[float]) -> list[float]:
    """Offer what is due of a live source's frames; return when."""
    pacer = Pacer(fps)
    offered = []
    for now_s in arrivals_s:
        if pacer.is_due(now_s):
            pacer.step(now_s)
            offered.append(now_s)
    return offered


def test_the_first_frame_is_due_at_once() -> None:
    assert Pacer(15).left_s(1000.0) == 0
    assert Pacer(15).is_due(1000.0)


def test_zero_is_as_fast_as_it_comes() -> None:
    assert play(Pacer(0), 5) == [1000.0] * 5
    assert follow(0, [1.0, 1.0, 1.0001]) == [1.0, 1.0, 1.0001]


def test_frames_keep_to_the_grid_without_drift_however_late_each_one_is() -> None:
    delivered = play(Pacer(15), 150_000, late_s=0.05)
    for number, now_s in enumerate(delivered):
        assert 0 <= now_s - (1000.0 + number / 15) + 1e-6 < 0.0501 + 1 / 15


def test_a_long_gap_is_not_made_up_for_by_a_burst() -> None:
    pacer = Pacer(10)
    pacer.step(1000.0)
    pacer.step(1007.03)
    waits_s = []
    now_s = 1007.03
    for _ in range(3):
        waits_s.append(pacer.left_s(now_s))
        now_s += waits_s[-1]
        pacer.step(now_s)
    assert waits_s == pytest.approx([0, 0.1, 0.1])


@pytest.mark.parametrize(
    ("camera_fps", "fps", "expected_fps"), [(30, 15, 15), (30, 25, 25), (30, 30, 30), (10, 15, 10)]
)
def test_a_live_camera_is_offered_at_most_at_fps(camera_fps: float, fps: float, expected_fps: float) -> None:
    chance = random.Random(2)
    arrivals_s = [number / camera_fps + chance.uniform(-0.004, 0.004) for number in range(int(100 * camera_fps))]
    offered = follow(fps, arrivals_s)
    assert len(offered) == pytest.approx(100 * expected_fps, rel=0.01)
    for begin_s in range(99):
        assert sum(begin_s <= now_s < begin_s + 1 for now_s in offered) <= fps + 1
