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


def took(estimates: Estimates, *durations_ms: float, size_bytes: int = 8) -> None:
    for one in durations_ms:
        estimates.ended("m", Measured(size_bytes, one * MS), PROOF)


def test_a_size_that_has_not_run_is_bounded_by_those_that_have() -> None:
    estimates = Estimates(Clock())
    assert needed_ms(estimates, 8, NONE) == 50
    assert (needed_ms(estimates, 4), needed_ms(estimates, 64)) == (1, 8)
    estimates.ended("m", Measured(1024, 10.0 * MS), PROOF)
    assert (needed_ms(estimates, 64), needed_ms(estimates, 512), needed_ms(estimates, 4096)) == (8, 10, 40)
    assert needed_ms(Estimates(Clock()), 1024) == 128


def test_a_size_far_beyond_those_that_have_run_is_tried_after_half_a_minute() -> None:
    """A proof of 8 bytes would else make 30 MiB an hour's work, by which they would be refused for as long."""
    clock = Clock()
    estimates = Estimates(clock)
    took(estimates, 1)
    assert needed_ms(estimates, 30 << 20) == 2000
    estimates.passed_over("m", 30 << 20, PROOF)
    clock.ns += 16_000 * MS
    assert needed_ms(estimates, 30 << 20) == 1000
    clock.ns += 15_000 * MS
    assert 0 < needed_ms(estimates, 30 << 20) < 80
    took(estimates, 3000, size_bytes=4096)
    assert needed_ms(Estimates(clock), 30 << 20) == 2000
    assert needed_ms(estimates, 60 << 20) == 3000, "what is slow already is no quicker with more bytes"


def test_sizes_that_differ_by_more_than_a_tenth_have_estimates_of_their_own() -> None:
    estimates = Estimates(Clock())
    took(estimates, 10, size_bytes=1000)
    took(estimates, 14, size_bytes=1200)
    assert needed_ms(estimates, 1000) == needed_ms(estimates, 1040) == 10
    assert needed_ms(estimates, 1200) == 14
    assert 10 < needed_ms(estimates, 1100) < 11.5


def test_one_slow_inference_changes_no_estimate_and_three_of_five_do() -> None:
    estimates = Estimates(Clock())
    took(estimates, 5, 5, 5, 5, 5, 90)
    assert needed_ms(estimates, 8) == 5
    took(estimates, 40)
    assert needed_ms(estimates, 8) == 5
    took(estimates, 50)
    assert needed_ms(estimates, 8) == 40


def test_a_slow_second_inference_changes_no_estimate() -> None:
    estimates = Estimates(Clock())
    took(estimates, 5, 90)
    assert needed_ms(estimates, 8) == 5


def test_an_estimate_that_was_passed_over_falls_by_a_sixteenth_of_the_time() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    took(estimates, 300)
    clock.ns += 60_000 * MS
    assert needed_ms(estimates, 8) == 300
    assert estimates.last_ns("m", 8, PROOF, clock.ns + 1_600 * MS) == 200 * MS
    estimates.passed_over("m", 8, PROOF)
    clock.ns += 1_600 * MS
    estimates.passed_over("m", 8, PROOF)
    assert needed_ms(estimates, 8) == 200
    assert estimates.last_ns("m", 8, PROOF, clock.ns + 1_600 * MS) == 100 * MS
    assert needed_ms(estimates, 1 << 20) > 300
    clock.ns += 60_000 * MS
    assert needed_ms(estimates, 8) == 0


def test_a_slow_model_is_tried_ever_more_seldom_and_a_quick_one_at_once_again() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    took(estimates, 300)
    for passed_ms in (1_600, 3_200, 6_400):
        estimates.passed_over("m", 8, PROOF)
        clock.ns += passed_ms * MS
        assert needed_ms(estimates, 8) == 200
        clock.ns += 300 * MS
        took(estimates, 300)
        assert needed_ms(estimates, 8) == 300
    estimates.passed_over("m", 8, PROOF)
    clock.ns += 60_000 * MS
    took(estimates, 1)
    assert needed_ms(estimates, 8) == 1
    estimates.passed_over("m", 8, PROOF)
    clock.ns += 8 * MS
    assert needed_ms(estimates, 8) == 0.5


def test_a_model_is_tried_less_than_once_an_hour_at_the_least() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    for _ in range(20):
        clock.ns += 400 * MS
        took(estimates, 300)
        estimates.passed_over("m", 8, PROOF)
    clock.ns += 3_600_000 * MS
    assert 50 < needed_ms(estimates, 8) < 100


def test_an_inference_that_fits_a_gap_takes_the_patience_back() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    took(estimates, 300)
    for _ in range(8):
        estimates.passed_over("m", 8, PROOF)
        clock.ns += 400 * MS
        took(estimates, 300)
    estimates.passed_over("m", 8, PROOF)
    clock.ns += 1_600 * MS
    assert needed_ms(estimates, 8) > 290
    estimates.ended("m", Measured(8, 300.0 * MS), PROOF, fits=True)
    estimates.passed_over("m", 8, PROOF)
    clock.ns += 1_600 * MS
    assert needed_ms(estimates, 8) == 200


def test_an_estimate_that_would_fit_does_not_age() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    took(estimates, 300)
    estimates.passed_over("m", 8, PROOF)
    clock.ns += 1_600 * MS
    estimates.would_fit("m", 8, PROOF)
    assert needed_ms(estimates, 8) == 300
    clock.ns += 1_600 * MS
    assert needed_ms(estimates, 8) == 300


def test_a_guess_ages_as_time_goes_and_the_first_inference_replaces_it() -> None:
    clock = Clock()
    estimates = Estimates(clock)
    estimates.passed_over("m", 1024, PROOF)
    assert needed_ms(estimates, 1024) == 128
    clock.ns += 64 * MS
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
