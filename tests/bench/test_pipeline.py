"""The pipeline's benchmark, short, with a real agent, a real broker and tiny models."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent.bench.figures import median
from agent.bench.pipeline import control_cost, stages, throughput
from agent.bench.pipeline.control_cost import cpu_s
from agent.bench.pipeline.stages import Scene
from agent.bench.plant.models import Models
from agent.bench.plant.warm_up import prepare
from agent.bench.reference.competitor import competitor
from agent.messages.errors import TransientError

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("settles_soon")]
Make = Callable[..., Models]


def test_the_agent_is_compared_with_the_bare_runtime_in_each_round(tiny_models: Make, tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))  # of the tests that ran here earlier
    figures = throughput.measure(tiny_models("n"), tmp_path, "n", rounds=2, seconds=1.0)
    rounds = figures["rounds"]
    assert {len(rates) for rates in rounds.values()} == {2}
    assert len([name for name in rounds if name.startswith("forward")]) == len(throughput.SETTINGS)
    best = rounds[f"forward {figures['best_forward']}"]
    assert (
        median(best) == figures["forwards_per_s"] == max(median(rounds[n]) for n in rounds if n.startswith("forward"))
    )
    assert figures["vs_forward"] == median(a / b for a, b in zip(rounds["agent"], best, strict=True)) > 0
    assert set(figures["precision"]) == {"agent", "forward"}
    assert len(set(figures["precision"].values())) == 1
    assert set(psutil.Process().children(recursive=True)) <= before, "nothing is left running"


def test_a_frames_stages_add_up_and_every_stream_is_served(tiny_models: Make, tmp_path: Path) -> None:
    found = stages.by_streams(Scene(tiny_models("n"), tmp_path / "plant", "n", 1.0), (1, 2))
    assert set(found) == {"1", "2"}
    for one in found.values():
        assert set(one["stages_ms"]) == {"capture", "wait", "preprocess", "infer", "decode", "publish"}
        assert all(milliseconds > 0 for milliseconds in one["stages_ms"].values())
        assert 0 < one["slowest_over_fastest"] <= 1


def test_so_many_streams_are_compared_with_one_and_with_the_bare_runtime(tiny_models: Make, tmp_path: Path) -> None:
    found = stages.by_count(Scene(tiny_models("n"), tmp_path / "plant", "n", 1.0), (1, 2), rounds=2)
    assert found["vs_first"]["1"] == 1.0
    rounds = found["rounds"]
    assert (
        found["vs_first"]["2"] == median(a / b for a, b in zip(rounds["agent 2"], rounds["agent 1"], strict=True)) > 0
    )
    best = rounds[found["best_forward"]]
    assert found["vs_forward"]["2"] == median(a / b for a, b in zip(rounds["agent 2"], best, strict=True)) > 0
    assert len(set(found["precision"].values())) == 1


def test_paced_streams_are_counted_by_their_frames(tiny_models: Make, tmp_path: Path) -> None:
    found = stages.paced(Scene(tiny_models("n"), tmp_path / "plant", "n", 2.0), cameras=3, fps=5.0)
    assert found["offered"] > 0
    assert 0 < found["inferred_share"] <= 1
    assert found["latency_ms"]["count"] >= found["offered"] * found["inferred_share"]


def test_a_paced_forward_is_taken_from_the_latency(tiny_models: Make, tmp_path: Path) -> None:
    scene = Scene(tiny_models("n"), tmp_path / "plant", "n", 1.0)
    plant = scene.plant(10.0, 1)
    prepare(plant.write(port=1), [scene.models["n"].reference])
    with throughput.forward(plant, "n") as runtime:
        found = stages.beyond_forward(scene, 10.0, 1, runtime)
    assert found["forward_ms"]["count"] == 10
    assert found["beyond_ms"]["p50"] == found["latency_ms"]["p50"] - found["forward_ms"]["p50"]


def test_controls_part_is_of_the_messages_that_arrived(
    tiny_models: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_cost, "SCENES", {"20": (2, 10.0)})
    found = control_cost.measure(tiny_models("n"), tmp_path, "n", 1.0)
    assert found["20"]["messages_per_s"] > 0
    assert found["20"]["ms_per_message"] > 0


def test_a_process_takes_what_its_threads_take() -> None:
    before_s = cpu_s(os.getpid())
    while cpu_s(os.getpid()) - before_s < 0.02:
        sum(range(10_000))


def test_a_contestant_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        competitor("agent.bench.pipeline.forward", tmp_path / "log", tmp_path, "nothing") as one,
        pytest.raises(TransientError, match="there is no artifact nothing"),
    ):
        one.ask("LATENCY", 1, 1)
