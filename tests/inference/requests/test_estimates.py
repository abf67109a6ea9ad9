"""Estimates of requests' durations go by size, and age while they cause refusals."""

from agent.inference.requests.estimates import Estimates, Measured

MS = 1_000_000
PROOF = Measured(8, 1.0 * MS)
NONE = Measured(0, 0)


class Clock:
    """A clock that a test sets, in ns."""

    def __init__(self) -> None:
        self.ns = 10_000 * MS

    def __call__(self) -> int:
        return self.ns


def needed_ms(estimates: Estimates, size_bytes: int, proof: Measured = PROOF) -> float:
    return round(estimates.needed_ns("m", size_bytes, proof) / MS, 3)


def test_a_size_that_has_not_run_is_bounded_by_those_that_have() -> None:
    estimates = Estimates(Clock())
    assert needed_ms(estimates, 8, NONE) == 50
    assert (needed_ms(estimates, 4), needed_ms(estimates, 15), needed_ms(estimates, 64)) == (1, 1, 8)
    estimates.ended("m", Measured(1024, 10.0 * MS), PROOF)
    assert (needed_ms(estimates, 64), needed_ms(estimates, 512), needed_ms(estimates, 4096)) == (8, 10, 40)
    assert needed_ms(Estimates(Clock()), 1024) == 128


def test_only_a_refused_estimate_ages() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    estimates.ended("m", Measured(8, 300.0 * MS), PROOF)
    clock.ns += 60_000 * MS
    assert needed_ms(estimates, 8) == 300
    estimates.refused("m", 8, PROOF)
    clock.ns += 2_000 * MS
    estimates.refused("m", 8, PROOF)
    assert needed_ms(estimates, 8) == 150
    assert needed_ms(estimates, 1 << 20) > 300


def test_a_slow_model_is_tried_ever_more_seldom_and_a_quick_one_at_once_again() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    estimates.ended("m", Measured(8, 300.0 * MS), PROOF)
    for half_life_ms in (2_000, 4_000, 8_000):
        estimates.refused("m", 8, PROOF)
        clock.ns += half_life_ms * MS
        assert needed_ms(estimates, 8) == 150
        clock.ns += 300 * MS
        estimates.ended("m", Measured(8, 300.0 * MS), PROOF)
        assert needed_ms(estimates, 8) == 300
    estimates.refused("m", 8, PROOF)
    clock.ns += 60_000 * MS
    estimates.ended("m", Measured(8, 1.0 * MS), PROOF)
    assert needed_ms(estimates, 8) == 1
    estimates.refused("m", 8, PROOF)
    clock.ns += 2_000 * MS
    assert needed_ms(estimates, 8) == 0.5


def test_a_guess_ages_too_and_the_first_inference_replaces_it() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    estimates.refused("m", 1024, PROOF)
    assert needed_ms(estimates, 1024) == 128
    clock.ns += 2_000 * MS
    assert needed_ms(estimates, 1024) == 64
    estimates.ended("m", Measured(1024, 90.0 * MS), PROOF)
    assert needed_ms(estimates, 1024) == 90


def test_a_failure_only_lengthens_an_estimate() -> None:
    estimates = Estimates(Clock())
    estimates.ended("m", Measured(64, 1.0 * MS), PROOF, has_failed=True)
    assert needed_ms(estimates, 64) == 8
    estimates.ended("m", Measured(64, 30.0 * MS), PROOF, has_failed=True)
    assert needed_ms(estimates, 64) == 30
    estimates.ended("m", Measured(64, 1.0 * MS), PROOF, has_failed=True)
    assert needed_ms(estimates, 64) == 30
