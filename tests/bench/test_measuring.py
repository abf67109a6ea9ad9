"""The measurements, short, with a real agent, a real broker and tiny models: figures come, and lies are found."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent.bench import recovery
from agent.bench.memory import memory
from agent.bench.options import Options
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.device import started
from agent.bench.plant.models import Models
from agent.bench.plant.warm_up import measure_footprints
from agent.bench.swap import beside_a_load, cold_swaps, preloaded_swaps, resident_swaps

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("settles_soon")]
Make = Callable[..., Models]


def test_resident_swaps_are_counted_through_both_kinds_of_broker(tiny_models: Make, tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))  # of the tests that ran here earlier
    figures = resident_swaps.measure(tiny_models("n", "n-b"), tmp_path, ("n", "n-b"), swaps=5)
    assert (figures["swaps"], figures["residency"]) == (5, {"resident": 5})
    assert figures["wrong_model"] == 0
    assert figures["command_to_first_frame_ms"]["p50"] > 0
    assert set(figures["command_to_ready_ms"]) == {"set_tcp_nodelay", "mosquitto_defaults"}
    assert all(one["count"] for one in figures["command_to_ready_ms"].values())
    assert set(psutil.Process().children(recursive=True)) <= before, "nothing is left running"


def test_a_model_that_gives_anothers_labels_is_found(tiny_models: Make, tmp_path: Path) -> None:
    figures = resident_swaps.measure(tiny_models("n", "n-b", liar="n-b"), tmp_path, ("n", "n-b"), swaps=2)
    assert figures["wrong_model"] > 0


def test_a_paced_line_is_measured_while_another_loads(
    tiny_models: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside_a_load, "full_speed", lambda *_: 20.0)
    monkeypatch.setattr(beside_a_load, "_STEADY_S", 1.0)
    monkeypatch.setattr(beside_a_load, "measure_footprints", lambda *_: dict.fromkeys("nsx", 100 << 20))
    monkeypatch.setattr(beside_a_load, "_is_cold", lambda _report: True)  # tiny models may all fit
    figures = beside_a_load.measure(tiny_models("n", "s", "x"), tmp_path, ("n", "s", "x"), repeats=2)
    assert (figures["paced_fps"], figures["repeats"]) == (10.0, 2)
    assert figures["steady_ms"]["count"] > figures["repeats"]
    assert figures["p50_during_load"] > 0


def test_a_rehearsal_learns_what_models_take(tiny_models: Make, tmp_path: Path) -> None:
    plant = Plant(tmp_path / "plant", tiny_models("n", "s"), (Station("1", 10, "n"),), "")
    footprints = measure_footprints(plant, ["n", "s"])
    assert set(footprints) == {"n", "s"}
    assert min(footprints.values()) > 0


def test_memory_is_followed_from_outside(tiny_models: Make, tmp_path: Path) -> None:
    plant = Plant(tmp_path / "plant", tiny_models("n", "s", "m"), (Station("1", 10, "n"),), str(300 << 20))
    figures = memory.measure_in_turn(plant, ("n", "s", "m"), rounds=2)
    assert figures["peak_pss_bytes"] > figures["control_bytes"] + figures["worker_bytes"] > 20 << 20
    assert figures["camera_bytes"] > 10 << 20
    assert figures["worker_base_bytes"] > 20 << 20
    assert figures["samples"] > 50
    assert figures["over_budget_bytes_max"] == 0
    assert len(figures["pss_over_time"]) > 2


def test_drift_is_looked_at_in_one_state(tiny_models: Make, tmp_path: Path) -> None:
    models = tiny_models("n", "s", "m", "l", "x")
    plant = Plant(tmp_path / "plant", models, (Station("1", 10, "n"),), "300MiB")
    figures = memory.measure_drift(plant, swaps=6)
    assert figures["drift_swaps"] >= 6
    assert figures["drift_bytes"] == figures["drift_readings_bytes"][-1] - figures["drift_readings_bytes"][0]
    assert len(figures["first_loads_readings_bytes"]) == 3
    assert min(figures["first_loads_readings_bytes"]) > 0
    assert figures["wrong_model"] == 0


def test_an_agent_that_ends_is_told_with_the_end_of_its_log(tiny_models: Make, tmp_path: Path) -> None:
    plant = Plant(tmp_path / "plant", tiny_models("n"), (Station("1", 10, "n"),), "300MiB")
    with started(plant) as device:
        psutil.Process(device.pid).terminate()
        with pytest.raises(Exception, match="the agent's log ends with"):
            device.until(lambda: False, "for ever")


def test_a_tight_budget_holds_home_and_the_largest_but_no_third() -> None:
    targets = {"n": "n-b", "x": "x"}
    sizes = {"n": 35, "n-b": 36, "x": 188}
    budget = cold_swaps.tight_budget(sizes, "n", targets)
    assert sizes["n"] + sizes["x"] < budget < sizes["n"] + sizes["x"] + sizes["n-b"]


def test_cold_swaps_from_a_paced_line_are_held_to_the_same_times(tiny_models: Make, tmp_path: Path) -> None:
    models = tiny_models("n", "s")
    demanded = {"budget": str(300 << 20), "reference_ms": {"pt": {"s": 1000.0}}}
    figures = cold_swaps.measure_paced(models, tmp_path, {"s": "s"}, 10.0, demanded)
    assert figures["by_model"]["s"] > 0
    assert figures["vs_article"] == figures["vs_article_by_model"]["s"] == figures["by_model"]["s"] / 1000
    assert (figures["wrong_model"], figures["not_cold"]) == (0, 1), "both fit: only the first swap loads"


@pytest.mark.soak  # preloads wait for idle cores, which other tests beside it leave none of
def test_a_restart_preloads_all_sizes_and_swaps_find_them(tiny_models: Make, tmp_path: Path) -> None:
    targets = {"s": "s", "m": "m"}
    paced = {"fps": 10.0, "loads_s": {"s": 0.1, "m": 0.3}}
    figures = preloaded_swaps.measure(tiny_models("n", "s", "m", "x"), tmp_path, targets, paced, restarts=2)
    assert (figures["wrong_model"], figures["frames_lost"], figures["not_preloaded"]) == (0, 0, 0)
    assert set(figures["command_to_first_frame_ms"]["by_model"]) == {"s", "m"}
    assert figures["all_resident_s"]["count"] == 2
    assert figures["vs_sum_of_loads"] > 0
    assert figures["steady_ms"]["count"] > 0


def test_each_part_that_is_struck_comes_back(tiny_models: Make, tmp_path: Path) -> None:
    figures = recovery.measure(tiny_models("n"), Options(tmp_path), rounds=1)
    for what in ("worker_killed", "camera_killed", "camera_frozen"):
        zero_s, again_s = (figures[f"{what}_{name}"]["max"] for name in ("ready_0_s", "ready_again_s"))
        assert 0 < zero_s < again_s
    assert figures["first_detections_s"]["max"] > 0
    assert figures["stopped_s"]["max"] > 0
    assert figures["control_bytes"]["max"] > 10 << 20
