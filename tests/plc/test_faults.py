"""The block beside a running agent while things break: no belt runs on a line that nobody checks."""

import json
import os
from pathlib import Path

import pytest
from plc.controller import Run
from plc.judge import RULE_S, Verdict, judge
from plc.plant import FAULTS, Outcome, Plant

CHANGEOVERS = int(os.environ.get("CHANGEOVER_TEST_PLC_CHANGEOVERS", "1000"))
SECONDS = float(os.environ.get("CHANGEOVER_TEST_PLC_SECONDS", "3600"))
SEED = int(os.environ.get("CHANGEOVER_TEST_PLC_SEED", "1"))
LINES = int(os.environ.get("CHANGEOVER_TEST_PLC_LINES", "8"))


def hold(outcome: Outcome) -> None:
    figures = {
        "changeovers": outcome.changeovers,
        "faults": outcome.faults,
        "runs": outcome.verdict.runs,
        "belt_s": round(outcome.verdict.ran_s, 1),
        "detections": outcome.detections,
        "beyond_s": round(outcome.verdict.beyond_s, 3),
        "at_connects_s": round(outcome.verdict.at_connects_s, 3),
        "longest_unchecked_s": round(outcome.verdict.longest_unchecked_s, 3),
        "longest_cycle_s": round(outcome.longest_cycle_s, 3),
    }
    print("\n" + json.dumps(figures))  # noqa: T201 - the figure is what the run is for
    assert (outcome.verdict.beyond_s, outcome.verdict.at_connects_s) == (0, 0)
    assert outcome.verdict.runs >= outcome.changeovers


@pytest.mark.timeout(600)
def test_each_fault_once_runs_no_belt_unchecked(tmp_path: Path) -> None:
    lines = 2
    with Plant(tmp_path / "plant", lines) as plant:
        outcome = plant.suffer(lines * len(FAULTS), seed=1)
    assert set(outcome.faults) == set(FAULTS)
    hold(outcome)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_a_thousand_changeovers_with_faults_run_no_belt_unchecked(tmp_path: Path) -> None:
    with Plant(tmp_path / "plant", LINES) as plant:
        hold(plant.suffer(CHANGEOVERS, SEED, SECONDS))


def frames(*times: float, letter: str = "b") -> list[tuple[float, str]]:
    return [(at_s, letter) for at_s in times]


def judged(run: tuple[float, float], seen: list[tuple[float, str]], *connects: float) -> Verdict:
    return judge([Run("17", *run)], connects, seen, lambda _product: "b")


def test_the_judge_sees_a_belt_that_runs_beyond_the_rule() -> None:
    seen = frames(*[number / 5 for number in range(50)])  # to 9.8 s
    assert judged((1, 12), seen).beyond_s == 0
    assert judged((1, 14), seen).beyond_s == pytest.approx(14 - 9.8 - RULE_S)
    assert judged((13.5, 14), seen).beyond_s == pytest.approx(0.5)
    assert judged((1, 14), seen + frames(10.0, 12.0, 14.0, letter="a")).beyond_s == pytest.approx(14 - 9.8 - RULE_S)


def test_the_judge_takes_a_line_for_checked_whose_next_frame_is_the_right_models() -> None:
    before = frames(*[number / 5 for number in range(50)], letter="a")
    assert judged((9.9, 12), before + frames(10.0, 10.2)).beyond_s == 0
    assert judged((9.6, 10), before + frames(10.0, 10.2)).beyond_s == pytest.approx(0.2, abs=0.06)
    assert judged((0.0, 5), frames(5.0)).beyond_s == pytest.approx(4.0)


def test_the_judge_gives_the_rule_s_time_to_a_line_that_dies_before_its_first_frame() -> None:
    seen = frames(*[number / 5 for number in range(50)], letter="a")  # to 9.8 s; ready for the other model then
    assert judged((9.9, 12.9), seen).beyond_s == 0
    assert judged((9.9, 14.0), seen).beyond_s == pytest.approx(1.0)
    assert judged((10.1, 12.9), seen).beyond_s == pytest.approx(2.8), "nobody was ready for a product when it started"


def test_the_judge_sees_a_belt_that_a_connect_starts() -> None:
    seen = frames(1.0, 1.2, 20.0)
    assert judged((3, 4), seen, 2.9).at_connects_s == pytest.approx(1)
    assert judged((3, 4), seen, 3.1).at_connects_s == 0
    assert judged((1.3, 4), seen, 1.0).at_connects_s == 0
    assert judged((18.0, 21), seen, 17.0).at_connects_s == pytest.approx(1.0)
