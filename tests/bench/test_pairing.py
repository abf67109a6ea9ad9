"""Ratios of what computes alike."""

import pytest

from agent.bench.pipeline.pairing import Contestant, UnlikeError, as_run, ratio


def test_unlike_things_have_no_ratio() -> None:
    ours, theirs = Contestant("agent", "f32", [10.0]), Contestant("forward", "bf16", [20.0])
    with pytest.raises(UnlikeError, match="agent computes in f32, forward in bf16"):
        ratio(ours, theirs)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    ours, theirs = Contestant("agent", "bf16", [9.0, 8.0, 30.0]), Contestant("forward", "bf16", [10.0, 10.0, 10.0])
    assert ratio(ours, theirs) == 0.9


def test_what_a_user_gets_is_told_with_both_precisions() -> None:
    told = as_run(Contestant("agent", "bf16", [30.0]), Contestant("torch as run", "f32", [10.0]))
    assert told == {"ratio": 3.0, "precision": {"agent": "bf16", "torch as run": "f32"}}
