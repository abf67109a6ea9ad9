"""The shipped traces are what the script makes of their seeds, and are what they say."""

from itertools import pairwise
from pathlib import Path

import pytest

from agent.bench.changeovers import FOLDER, Trace, as_lines, generate, generate_all, read, read_all

TRACES = {trace.header.trace: trace for trace in generate_all()}


def test_what_is_shipped_is_what_the_seeds_give() -> None:
    shipped = {path.stem: path.read_bytes() for path in FOLDER.glob("*.jsonl")}
    assert shipped == {name: as_lines(trace) for name, trace in TRACES.items()}, "run scripts/make_traces"


def test_a_trace_comes_back_from_its_file(tmp_path: Path) -> None:
    made = generate("two", "mixed", seed=1, models=6, lines=2)
    path = tmp_path / "two.jsonl"
    path.write_bytes(as_lines(made))
    assert read(path) == made
    assert read_all(tmp_path) == [made]


def test_another_seed_is_another_plant() -> None:
    one, other = (generate("one", "operator", seed=seed, models=6) for seed in (1, 2))
    assert one.changeovers != other.changeovers


def test_every_kind_is_shipped() -> None:
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
