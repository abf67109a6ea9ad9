"""Intervals and verdicts: few frames decide nothing, and neither does chance."""

import random

import msgspec
import pytest

from agent.control.canary.telling import agreement
from agent.control.comparisons.statistics import mean_interval, wilson
from agent.control.comparisons.totals import added
from agent.control.comparisons.verdict import verdict
from agent.messages.canary import ClassCounts, Counts, Histogram, bucket_ms, bucket_of
from agent.settings import CanarySettings

BOUNDS = CanarySettings()


def test_wilsons_interval_is_that_of_the_tables() -> None:
    assert wilson(5, 10, z=1.96) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10, z=1.96) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("missing", [0, 1, 2, 50])
def test_an_interval_holds_its_share_at_any_count(missing: int) -> None:
    for frames in range(1, 4000, 7):
        counts = Counts(frames=frames, objects=frames, agree=3 * frames, missing=missing)
        share, interval = agreement(counts)
        assert share is not None
        assert interval is not None
        low, high = interval
        assert low <= share <= high <= 1, frames
        hits = 3 * frames / (3 * frames + missing) * frames
        whole_low, whole_high = wilson(hits, frames)
        assert low <= whole_low <= hits / frames <= whole_high <= high, frames
    assert wilson(0, 7)[0] == 0.0


def test_a_mean_has_an_interval_from_two_values_on() -> None:
    low, high = mean_interval(10.0, 1000 * 0.0001 + 0.2, 1000)
    assert low < 0.01 < high
    assert mean_interval(1.0, 1.0, 1) == (float("-inf"), float("inf"))


def test_a_latency_is_in_its_bucket() -> None:
    for latency_ms in (0.2, 1.0, 17.3, 950.0):
        bucket = bucket_of(latency_ms)
        assert bucket_ms(bucket) <= latency_ms * 1.0001
        assert latency_ms < bucket_ms(bucket + 1) * 1.0001
    assert Histogram({bucket_of(20.0): 99, bucket_of(500.0): 1}).percentile(0.5) == pytest.approx(20.0, rel=0.04)


def test_counts_of_two_spans_add_up() -> None:
    one = Counts(frames=1, classes={"cap": ClassCounts(stable=1)}, stable_ms=Histogram({3: 1}))
    two = added(one, Counts(frames=2, classes={"cap": ClassCounts(stable=2), "jar": ClassCounts(stable=1)}))
    assert (two.frames, two.classes["cap"].stable, two.classes["jar"].stable) == (3, 3, 1)
    assert two.stable_ms.buckets == {3: 1}


@pytest.mark.parametrize("seed", range(20))
def test_chance_alone_gives_nobody_up(seed: int) -> None:
    """Two equally good versions that differ in 4 % of the objects, over 10,000 frames in steps of 10."""
    dice, counts = random.Random(seed), Counts()
    for _ in range(1000):
        missing, extra = (sum(dice.random() < 0.04 for _ in range(20)) for _ in range(2))
        scores = [dice.gauss(0, 0.03) for _ in range(10)]
        step = Counts(
            frames=10,
            objects=10,
            agree=40 - missing,
            missing=missing,
            extra=extra,
            against=(missing + extra) // 2,
            scored=10,
            score=sum(scores),
            score_squares=sum(one * one for one in scores),
            classes={"cap": ClassCounts(frames=10, fewer=min(10, missing), more=min(10, extra))},
        )
        counts = added(counts, step)
        assert verdict(counts, BOUNDS, "canary") is None


@pytest.mark.parametrize("seed", range(20))
def test_a_version_that_misses_a_quarter_is_flagged_within_500_frames(seed: int) -> None:
    dice, counts = random.Random(seed), Counts()
    for _ in range(50):
        missing = sum(dice.random() < 0.25 for _ in range(20))
        counts = added(counts, Counts(frames=10, objects=10, agree=20 - missing, missing=missing, against=missing))
        if (found := verdict(counts, BOUNDS, "shadow")) is not None:
            assert found.reason == "disagreement"
            return
    pytest.fail("not flagged")


def test_nothing_is_decided_by_few_frames() -> None:
    bad = Counts(frames=99, objects=99, missing=500, against=500, scored=99, score=-50.0, score_squares=26.0)
    assert verdict(bad, BOUNDS, "canary") is None
    assert verdict(Counts(late=4, answered=0), BOUNDS, "canary") is None
    assert verdict(Counts(late=20, answered=1000), BOUNDS, "canary") is None


def test_what_a_better_version_leaves_out_and_adds_is_not_held_against_it() -> None:
    better = Counts(
        frames=500, objects=500, agree=900, missing=200, extra=100, scored=500, score=10.0, score_squares=1.0
    )
    assert verdict(better, BOUNDS, "canary") is None


def unsteady(seed: int, stable: float, candidate: float, frames: int = 500) -> Counts:
    """Return counts of frames in which the models lose so much overlap on average, both more in difficult ones."""
    dice, pairs = random.Random(seed), []
    for _ in range(frames):
        difficulty = dice.uniform(0.5, 1.5)
        pairs.append((stable * difficulty * dice.uniform(0.7, 1.3), candidate * difficulty * dice.uniform(0.7, 1.3)))
    return Counts(
        frames=frames,
        again=frames,
        stable_unsteady=sum(one for one, _ in pairs),
        candidate_unsteady=sum(one for _, one in pairs),
        stable_unsteady_squares=sum(one * one for one, _ in pairs),
        candidate_unsteady_squares=sum(one * one for _, one in pairs),
        unsteady_products=sum(one * other for one, other in pairs),
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_candidate_that_is_less_steady_is_given_up_and_one_that_is_steadier_is_not(seed: int) -> None:
    worse = verdict(unsteady(seed, 0.065, 0.077), BOUNDS, "shadow")
    assert worse is not None
    assert worse.reason == "unsteady"
    assert "500 frames" in worse.detail
    for candidate in (0.02, 0.06, 0.065):
        assert verdict(unsteady(seed, 0.065, candidate), BOUNDS, "shadow") is None
    assert verdict(unsteady(seed, 0.065, 0.2, frames=99), BOUNDS, "shadow") is None


def test_a_difference_of_rounding_is_no_unsteadiness() -> None:
    assert verdict(unsteady(1, 0.0, 0.0), BOUNDS, "shadow") is None
    assert verdict(unsteady(1, 0.0001, 0.0005), BOUNDS, "shadow") is None


def test_a_stable_model_that_is_far_less_steady_is_no_measure_where_a_person_decides() -> None:
    differs = msgspec.structs.replace(unsteady(1, 0.2, 0.06), objects=500, agree=500, missing=300, against=300)
    assert verdict(differs, BOUNDS, "shadow", a_person_decides=True) is None
    early = msgspec.structs.replace(differs, frames=150, objects=150, again=90)
    assert verdict(early, BOUNDS, "shadow", a_person_decides=True) is None
    for counts, asks in ((differs, False), (msgspec.structs.replace(differs, again=50), True)):
        found = verdict(counts, BOUNDS, "shadow", a_person_decides=asks)
        assert found is not None
        assert found.reason == "disagreement"
