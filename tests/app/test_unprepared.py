"""Checkpoints in a running agent: prepared before they serve, never opened by the worker, said where they are."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomlkit
from support.running_agent import RunningAgent

from agent.bench.plant.children import runs
from agent.files import file_sha256

MakeAgent = Callable[..., RunningAgent]
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Trap:
    path: str

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def add(folder: Path, path: Path, name: str, **fields: object) -> None:
    """Enter a file into the plant's catalog."""
    catalog = folder / "models.toml"
    row = {"name": name, "variant": "n", "version": "1", "file": path.name, "sha256": file_sha256(path), **fields}
    catalog.write_text(catalog.read_text() + "\n" + tomlkit.dumps({"model": [row]}))


@pytest.fixture
def trapped(make_agent: MakeAgent, tmp_path: Path) -> Callable[..., RunningAgent]:
    """Start an agent with a product whose model is a pickle that runs code."""

    def start(**fields: object) -> RunningAgent:
        def changes(settings: dict[str, Any]) -> None:
            path = tmp_path / "trap.pt"
            path.write_bytes(pickle.dumps({"model": Trap(str(tmp_path / "ran"))}))
            add(tmp_path, path, "gamma", **fields)
            settings["line"]["line-1"]["products"]["crate"] = "gamma"
            settings["line"]["line-1"]["changeover_timeout_s"] = PATIENCE_S

        return make_agent(changes)

    return start


@pytest.mark.torch
def test_a_hostile_checkpoint_is_refused_behind_the_walls(trapped: Callable[..., RunningAgent], tmp_path: Path) -> None:
    agent = trapped()
    agent.until_said("line/line-1/model/state", "alpha:n@1")
    agent.send("line/line-1/product/set", "crate")
    agent.until_said("line/line-1/phase", "preparing")
    agent.until_said("line/line-1/phase", "fault", deadline_s=PATIENCE_S)
    agent.until(lambda: agent.on("line/line-1/switch"))
    report = json.loads(agent.on("line/line-1/switch")[-1].payload)
    assert (report["result"], report["reason"]) == ("failed", "load_failed")
    assert "cannot be prepared" in report["detail"]
    assert agent.value("line/line-1/model/state") == "alpha:n@1"
    assert not (tmp_path / "ran").exists()
    assert json.loads(agent.value("meta") or "")["unsafe"] == []


def test_an_unsafe_model_stands_in_meta_and_in_an_alert(trapped: Callable[..., RunningAgent]) -> None:
    agent = trapped(unsafe=True)
    agent.until(lambda: json.loads(agent.value("meta") or "{}").get("unsafe") == ["gamma:n@1"])
    agent.until(lambda: "unsafe_model" in (agent.value("alerts") or ""))


@pytest.fixture
def with_checkpoint(make_agent: MakeAgent, tmp_path: Path) -> Callable[..., RunningAgent]:
    """Start an agent whose lines have a product, `parcel`, that is served by a checkpoint."""

    def start(timeout_s: float = PATIENCE_S) -> RunningAgent:
        pytest.importorskip("torch")
        # as the backend does it, or later tests of this process could not: it is imported once
        pytest.importorskip("agent.inference.backends.ultralytics").import_ultralytics(tmp_path)

        def changes(settings: dict[str, Any]) -> None:
            from ultralytics import YOLO  # noqa: PLC0415 - only after it was imported safely

            path = tmp_path / "small.pt"
            network = YOLO("yolov8n.yaml")
            network.ckpt = {}
            network.save(path)
            add(tmp_path, path, "gamma", imgsz=64)
            for line in settings["line"].values():
                line["products"]["parcel"] = "gamma"
                line["changeover_timeout_s"] = timeout_s

        agent = make_agent(changes)
        agent.until_said("line/line-1/model/state", "alpha:n@1")
        agent.until_said("line/line-2/model/state", "beta:n@1")
        return agent

    return start


def records(folder: Path) -> list[Path]:
    """Return the records of `small.pt`'s artifacts, among those of the tiny models."""
    found = (folder / "state" / "cache" / "prepared").glob("[!.]*/artifact.json")
    return [path for path in found if json.loads(path.read_bytes())["source"] == "gamma:n@1"]


@pytest.mark.torch
def test_a_changeover_to_a_checkpoint_waits_until_it_is_prepared(with_checkpoint: Callable[..., RunningAgent]) -> None:
    """On two lines that want it at once: it is prepared once."""
    agent = with_checkpoint()
    for line in ("line-1", "line-2"):
        agent.send(f"line/{line}/product/set", "parcel")
    for line in ("line-1", "line-2"):
        agent.until_said(f"line/{line}/phase", "preparing")
    for line in ("line-1", "line-2"):
        agent.until_said(f"line/{line}/ready", "parcel", deadline_s=PATIENCE_S)
        agent.until_said(f"line/{line}/model/state", "gamma:n@1")
    agent.until(lambda: agent.value("line/line-1/phase") == "ready")
    phases = [one.payload.decode() for one in agent.on("line/line-1/phase")]
    after = phases[phases.index("preparing") :]
    assert after in (["preparing", "ready"], ["preparing", "switching", "ready"])
    worker = agent.child("agent.inference.process")
    assert not any("torch" in one.path for one in worker.memory_maps())
    assert agent.log().count("event=prepared model=gamma:n@1") == 1


def exporting(agent: RunningAgent) -> list[psutil.Process]:
    """Wait for the process that exports; return all processes of the agent, that one last."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = psutil.Process(agent.process.pid).children(recursive=True)
        found.sort(key=lambda one: runs(one, "export_process"))
        return bool(found) and runs(found[-1], "export_process")

    agent.until(is_there)
    return found


@pytest.mark.torch
def test_a_preparation_outlives_the_changeover_that_asked_for_it(
    with_checkpoint: Callable[..., RunningAgent], tmp_path: Path
) -> None:
    agent = with_checkpoint(timeout_s=10.0)
    agent.send("line/line-1/product/set", "parcel")
    agent.until_said("line/line-1/phase", "preparing")
    export = exporting(agent)[-1]
    export.suspend()  # until the changeover's time is over
    agent.until(lambda: b'"failed"' in agent.on("line/line-1/switch")[-1].payload, deadline_s=PATIENCE_S)
    report = json.loads(agent.value("line/line-1/switch") or "")
    assert (report["result"], report["reason"]) == ("failed", "timeout")
    assert agent.value("line/line-1/model/state") == "alpha:n@1"
    assert agent.value("line/line-1/ready") == "0"
    export.resume()
    agent.until(lambda: records(tmp_path), deadline_s=PATIENCE_S)
    agent.send("line/line-1/product/set", "parcel")
    agent.until_said("line/line-1/ready", "parcel", deadline_s=PATIENCE_S)


@pytest.mark.torch
def test_an_agent_that_is_killed_while_it_prepares_leaves_nothing_and_prepares_again(
    with_checkpoint: Callable[..., RunningAgent], tmp_path: Path
) -> None:
    agent = with_checkpoint()
    agent.send("line/line-1/product/set", "parcel", retain=True)
    agent.until_said("line/line-1/phase", "preparing")
    started = exporting(agent)
    agent.process.kill()
    agent.process.wait(60)
    _, left = psutil.wait_procs(started, 60)
    assert not left, [one.cmdline() for one in left]
    assert not records(tmp_path)
    mark = len(agent.heard)
    agent.start()
    agent.until_said("line/line-1/phase", "preparing", mark)
    agent.until_said("line/line-1/ready", "parcel", mark, deadline_s=PATIENCE_S)
    assert len(records(tmp_path)) == 1
