"""Traces are the same on every machine, and are what they say."""

import hashlib
from itertools import pairwise

import pytest

from agent.bench.cache.changeovers import Trace, as_lines, generate, generate_all

TRACES = {trace.header.trace: trace for trace in generate_all()}


def test_the_seeds_give_the_traces_that_figures_were_measured_on() -> None:
    digest = hashlib.sha256(b"".join(as_lines(trace) for trace in TRACES.values())).hexdigest()
    assert digest == "593224bafbbb4d535b8df2be9054e8161f80fe493827d9ea3c2a7a90aac23887"


def test_another_seed_is_another_plant() -> None:
    one, other = (generate("one", "operator", seed=seed, models=6) for seed in (1, 2))
    assert one.changeovers != other.changeovers


def test_every_kind_is_there() -> None:
    assert {trace.header.kind for trace in TRACES.values()} == {"shifts", "campaigns", "mixed", "operator"}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES.keys())
def test_a_trace_changes_its_lines_in_order(trace: Trace) -> None:
    assert len(trace.changeovers) == 1200
    assert all(before.at_s <= after.at_s for before, after in pairwise(trace.changeovers))
    assert {one.model for one in trace.changeovers} == set(trace.header.models)
    assert set(trace.header.models.values()) == {"n", "s", "m", "l", "x"}
    for line in {one.line for one in trace.changeovers}:
        mine = [one.model for one in trace.changeovers if one.line == line]
        assert all(before != after for before, after in pairwise(mine)), "a changeover changes the model"
