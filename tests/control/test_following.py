"""Aliases of a registry that lines follow, through the one pure function: what they bring, begin, and are told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.alias_plant import ALIAS, LOOK_S, SEALS, Plant, meaning

from agent.control import snapshot
from agent.control.events import CapChanged
from agent.control.job import CANDIDATES_JOB, CATALOG_JOB
from agent.messages.canary import Compared, Counts


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_a_line_without_an_alias_looks_for_none(tmp_path: Path) -> None:
    plant = Plant(tmp_path, candidate="")
    plant.wait(2 * LOOK_S)
    assert plant.play.supply.asked == []


def test_an_alias_that_is_not_set_is_looked_for_and_nothing_is_said(plant: Plant) -> None:
    plant.wait(2 * LOOK_S)
    assert 2 <= len(plant.looks) <= 4
    assert plant.job() is None
    assert plant.comparison is None


def test_an_alias_that_moves_brings_its_version_and_has_it_compared(plant: Plant) -> None:
    plant.mean("4")
    assert (plant.comparison.candidate, plant.comparison.mode) == ("cap-check:n@4", "shadow")
    assert (plant.comparison.share, plant.comparison.promote) == (0.1, "ask")
    plant.begin()
    assert plant.comparison.stage.value == "running"
    assert {line.serving.model for line in plant.play.state.lines.values()} == {"cap-check:n@3"}
    job = plant.job()
    assert job is not None
    assert (job["state"], job["models"]) == ("done", ["cap-check:n@4"])
    asked = len(plant.looks)
    plant.wait(2 * LOOK_S)
    assert len(plant.looks) > asked
    assert plant.comparison.stage.value == "running"


def test_it_is_compared_as_configured(tmp_path: Path) -> None:
    how = '[canary]\nmode = "canary"\nshare = 0.2\nframes = 50\npromote = "auto"\nlook_s = 60'
    plant = Plant(tmp_path, how)
    plant.mean("4")
    plant.begin()
    assert (plant.comparison.mode, plant.comparison.share) == ("canary", 0.2)
    plant.count(frames=100, objects=100, agree=100)
    plant.wait(3.0)
    assert plant.line.serving.model == "cap-check:n@4"


def test_a_line_that_does_not_follow_keeps_its_version(plant: Plant) -> None:
    plant.mean("4")
    plant.send("product/set", "17", "line-2")
    plant.restart()
    plant.wait(LOOK_S)
    assert plant.play.state.lines["line-2"].serving.model == "cap-check:n@3"


def test_a_result_is_written_once_to_the_version_that_it_is_of(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.count(frames=812, agree=800)
    plant.send("canary/set", "stop")
    plant.wait(5.0)
    tags = [tag for look in plant.looks for one in look.aliases for tag in one.tags]
    [(version, key, value)] = tags
    assert (version, key) == ("4", f"changeover.{plant.play.settings.device.id}.line-1")
    told = json.loads(value)
    assert (told["result"], told["reason"], told["frames"]) == ("stopped", "superseded", 812)
    plant.restart()
    plant.wait(2 * LOOK_S)
    assert len([tag for look in plant.looks for one in look.aliases for tag in one.tags]) == 1
    assert plant.comparison.result == "stopped"


def test_a_newer_version_ends_the_comparison_of_the_older_one(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.mean("5")
    assert plant.comparison.candidate == "cap-check:n@5"


def test_a_comparison_that_somebody_asked_for_is_not_ended_by_an_alias(plant: Plant) -> None:
    plant.send("canary/set", {"candidate": "cap-check:s@3"})
    plant.begin()
    plant.mean("4")
    assert plant.comparison.candidate == "cap-check:s@3"
    plant.send("canary/set", "stop")
    plant.wait(5.0)
    assert plant.comparison.candidate == "cap-check:n@4"


def test_a_line_that_serves_another_model_begins_when_it_serves_this_one(plant: Plant) -> None:
    plant.send("product/set", "17")
    plant.mean("4")
    assert plant.line.comparison is None
    plant.send("product/set", "bottle-500")
    plant.wait(5.0)
    assert plant.comparison.candidate == "cap-check:n@4"


def away_and_back(plant: Plant) -> None:
    plant.send("product/set", "17")
    plant.wait(5.0)
    assert (plant.comparison.result, plant.comparison.end_reason) == ("stopped", "superseded")
    assert plant.comparison.end_detail == "the line's product changed; it goes on when cap-check:n@3 serves again"
    plant.send("product/set", "bottle-500")
    plant.wait(5.0)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_comparison_that_a_product_ended_goes_on_when_its_model_serves_again(plant: Plant, *, restarts: bool) -> None:
    plant.mean("4")
    plant.begin()
    plant.count(frames=100)
    since = plant.comparison.since
    plant.send("product/set", "17")
    if restarts:
        plant.restart()
    plant.wait(2 * LOOK_S)
    assert [told["frames"] for _, told in plant.told()] == [100], "a regular look tells how far it came"
    plant.send("product/set", "bottle-500")
    plant.wait(5.0)
    assert (plant.comparison.candidate, plant.comparison.since) == ("cap-check:n@4", since)
    plant.begin()
    plant.count(frames=50)
    assert (plant.comparison.result, plant.comparison.counts.frames) == ("running", 150)


def test_a_line_that_often_changes_has_no_look_begin_each_time(plant: Plant) -> None:
    plant.mean("4")
    looked = len(plant.looks)
    for _ in range(10):
        plant.begin()
        away_and_back(plant)
        assert plant.comparison.result == "running"
    assert len(plant.looks) - looked <= 2


def test_what_an_operator_stopped_does_not_go_on(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.send("canary/set", "stop")
    plant.send("product/set", "17")
    plant.send("product/set", "bottle-500")
    plant.wait(2 * LOOK_S)
    assert plant.comparison.result == "stopped"


def test_a_candidate_that_an_operator_chose_and_left_is_not_compared_again(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.send("model/set", "cap-check:n@4")
    plant.wait(5.0)
    plant.send("model/set", "auto")
    plant.wait(2 * LOOK_S)
    assert (plant.line.serving.model, plant.comparison.result) == ("cap-check:n@3", "stopped")


@pytest.mark.parametrize("meant", ["5", None])
def test_a_version_that_its_alias_has_left_meanwhile_does_not_go_on(plant: Plant, meant: str | None) -> None:
    plant.mean("4")
    plant.begin()
    plant.send("product/set", "17")
    if meant is None:
        del plant.play.supply.means[ALIAS]
        plant.wait(LOOK_S + 10.0)
    else:
        plant.mean(meant)
    plant.send("product/set", "bottle-500")
    plant.wait(5.0)  # not until the next look
    now = ("cap-check:n@5", "running") if meant is not None else ("cap-check:n@4", "stopped")
    assert (plant.comparison.candidate, plant.comparison.result) == now


def test_a_restart_goes_on_with_the_comparison_and_begins_none_anew(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.count(frames=100)
    kept = snapshot.take(plant.play.state)
    assert kept.lines["line-1"].followed == "cap-check:n@4"
    plant.restart()
    plant.wait(LOOK_S + 10.0)
    assert (plant.comparison.candidate, plant.comparison.counts.frames) == ("cap-check:n@4", 100)


def test_a_registry_that_is_away_is_asked_less_and_less_and_told(plant: Plant) -> None:
    plant.play.supply.refuse, plant.play.supply.transient = "cut_off", True
    plant.wait(4 * 3600.0)
    assert 4 <= len(plant.looks) <= 9
    job = plant.job()
    assert job is not None
    assert (job["state"], job["reason"]) == ("failed", "cut_off")
    plant.play.supply.refuse = None
    plant.wait(3700.0)
    job = plant.job()
    assert job is not None
    assert job["state"] == "done"


def test_a_version_that_fails_its_proof_is_tried_again_in_an_hour(plant: Plant) -> None:
    plant.play.worker.prepare_fail = "proof_failed"
    plant.mean("4")
    job = plant.job()
    assert job is not None
    assert (job["state"], job["reason"]) == ("failed", "proof_failed")
    plant.wait(1000.0)
    job = plant.job()
    assert job is not None
    assert job["state"] == "failed"
    plant.play.worker.prepare_fail = None
    plant.wait(3600.0)
    assert plant.comparison.candidate == "cap-check:n@4"


def test_an_order_goes_before_a_look(plant: Plant) -> None:
    plant.play.supply.fetch_s = 30.0
    until = len(plant.looks) + 1
    while len(plant.looks) < until:
        plant.wait(1.0)
    order = {"id": "job-1", "rev": 1, "models": [meaning("6")]}
    plant.play._message("models/set", {"payload": order})
    plant.wait(60.0)
    assert json.loads(plant.play.state.orders.states["job-1"])["state"] in {"done", "waiting"}


def test_looks_keep_to_the_window(tmp_path: Path) -> None:
    plant = Plant(tmp_path, '[supply]\nwindow = "22:00-05:00"')
    plant.play.unix_offset_s = 12 * 3600.0 - plant.play.t
    looked = len(plant.looks)
    plant.wait(2 * LOOK_S)
    assert len(plant.looks) == looked


def of_seal_check(folder: Path, default: str, more: str = "") -> Plant:
    """Return a plant whose line-2 has `default`, with seal-check of the variant m alone in the catalog."""
    plant = Plant(folder, more, SEALS)
    settings = folder / "settings.toml"
    first, second = settings.read_text().split("[line.line-2]")
    settings.write_text(f"{first}[line.line-2]{second.replace('cap-check', default)}")
    plant.come_up(folder)
    plant.play.supply.means[SEALS] = meaning("2") | {"name": "seal-check"}
    return plant


@pytest.mark.parametrize("variant", ["n", "m"])
def test_a_variant_that_is_new_to_a_model_goes_live_on_no_line_without_a_comparison(
    tmp_path: Path, variant: str
) -> None:
    plant = of_seal_check(tmp_path, "seal-check", f'variant = "{variant}"')
    other = plant.play.state.lines["line-2"]
    assert other.serving.model == "seal-check:m@1"
    plant.wait(2 * LOOK_S)
    assert plant.play.state.plant.loadable("seal-check:n@2") is not None
    assert (other.serving.model, other.comparison) == ("seal-check:m@1", None)
    plant.play._give(CapChanged("temperature", "n", "90"))
    plant.wait(5.0)
    assert other.serving.model == "seal-check:m@1"


@pytest.mark.parametrize("meant", ["3", None])
def test_a_version_that_its_alias_leaves_is_promoted_no_more_and_its_end_is_told(
    tmp_path: Path, meant: str | None
) -> None:
    plant = Plant(tmp_path, '[canary]\npromote = "auto"\nframes = 2000')
    plant.mean("4")
    plant.begin()
    plant.count(frames=100)
    if meant is None:
        del plant.play.supply.means[ALIAS]
        plant.wait(LOOK_S + 10.0)
    else:
        plant.mean(meant)
    assert (plant.comparison.result, plant.comparison.end_reason) == ("stopped", "superseded")
    plant.play._give(Compared("line-1", plant.comparison.number, Counts(frames=2000, objects=2000)))
    plant.wait(10.0)
    assert plant.line.serving.model == "cap-check:n@3"
    [(version, told)] = plant.told()
    assert (version, told["result"], told["frames"]) == ("4", "stopped", 100)


def test_a_version_is_withdrawn_also_where_the_next_one_fails_its_proof(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.play.worker.prepare_fail = "proof_failed"
    plant.mean("5")
    assert (plant.comparison.candidate, plant.comparison.result) == ("cap-check:n@4", "stopped")


def test_the_end_of_a_version_is_told_before_the_next_one_is_compared(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.mean("5")
    plant.wait(10.0)
    assert plant.comparison.candidate == "cap-check:n@5"
    assert [(version, told["result"]) for version, told in plant.told()] == [("4", "stopped")]


def test_the_end_of_a_version_is_told_first_also_where_looks_fail_meanwhile(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.play.supply.means[ALIAS] = meaning("5")
    while plant.comparison.result == "running":
        plant.wait(0.1)
    plant.play.supply.refuse, plant.play.supply.transient = "cut_off", True
    plant.wait(2 * LOOK_S)
    assert (plant.comparison.candidate, plant.comparison.result) == ("cap-check:n@4", "stopped")
    plant.play.supply.refuse, lost = None, len(plant.told())
    plant.wait(3700.0)
    assert plant.comparison.candidate == "cap-check:n@5"
    assert [(version, told["result"]) for version, told in plant.told()[lost:]] == [("4", "stopped")]


def test_a_result_that_the_registry_does_not_take_holds_up_no_next_version(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.play.supply.writes = False
    plant.mean("5")
    plant.wait(10.0)
    assert plant.comparison.candidate == "cap-check:n@5"


@pytest.mark.parametrize("is_untold", [True, False])
def test_a_look_that_the_supply_process_dies_with_comes_less_and_less(plant: Plant, *, is_untold: bool) -> None:
    if is_untold:
        plant.mean("4")
        plant.begin()
    plant.play.supply.lose = True
    looked = len(plant.looks)
    if is_untold:
        plant.send("canary/set", "stop")
    plant.wait(3 * 3600.0)
    assert 3 <= len(plant.looks) - looked <= 8


@pytest.mark.parametrize("way", ["order", "cancel"])
def test_a_version_whose_job_gave_way_is_brought_by_the_next_look(plant: Plant, way: str) -> None:
    plant.play.worker.prepare_s = 10_000.0
    plant.mean("4")
    plant.play.worker.prepare_s = 0.2
    if way == "order":
        order = {"id": "job-1", "rev": 1, "activate": "now", "models": [meaning("6")]}
        plant.play._message("models/set", {"payload": order})
    else:
        plant.play._message("cmd/cancel", {"payload": {"id": "c1", "job": CANDIDATES_JOB}})
    plant.wait(LOOK_S + 30.0)
    assert plant.play.state.plant.loadable("cap-check:n@4") is not None


def test_one_alias_that_fails_stops_no_other_and_is_told_once(tmp_path: Path) -> None:
    plant = Plant(tmp_path, f'candidate = "{SEALS}"')
    plant.play.supply.missed = {SEALS}
    plant.mean("4")
    plant.wait(LOOK_S)
    assert plant.comparison.candidate == "cap-check:n@4"
    job = plant.job() or {}
    assert (job["state"], job["reason"]) == ("failed", "cut_off")
    since, looked = job["since"], len(plant.looks)
    plant.wait(3 * LOOK_S)
    assert (plant.job() or {})["since"] == since
    assert len(plant.looks) - looked >= 2
    plant.play.supply.missed = set()
    plant.wait(LOOK_S + 10.0)
    assert (plant.job() or {})["state"] == "done"


def test_an_alias_that_could_not_be_looked_up_withdraws_nothing(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.restart()
    plant.play.supply.missed = {ALIAS}
    plant.wait(LOOK_S + 10.0)
    assert plant.comparison.result == "running"


def test_a_result_that_could_not_be_written_is_written_by_a_later_look(plant: Plant) -> None:
    plant.mean("4")
    plant.begin()
    plant.play.supply.writes = False
    looked = len(plant.looks)
    plant.send("canary/set", "stop")
    plant.wait(3 * LOOK_S)
    assert 2 <= len(plant.looks) - looked <= 5
    plant.play.supply.writes = True
    plant.wait(2 * LOOK_S)
    told = len(plant.told())
    plant.wait(2 * LOOK_S)
    assert len(plant.told()) == told


def test_a_candidate_without_memory_gives_way_to_the_index(plant: Plant) -> None:
    plant.play.worker.prepare_fail, plant.play.worker.prepare_may_fit = "no_memory", True
    plant.mean("4")
    assert (plant.job() or {})["state"] == "waiting"
    state = plant.play.state
    state.plant = replace(state.plant, supply=replace(state.plant.supply, index="https://hub/index"))
    plant.wait(5.0)
    assert json.loads(state.orders.states[CATALOG_JOB])["state"] == "done"
