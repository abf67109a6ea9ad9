"""Checkpoints in a running agent: prepared before they serve, never opened by the worker, said where they are."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from support.running_agent import RunningAgent

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
    pytest.importorskip("ultralytics")
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


@pytest.mark.torch
def test_a_changeover_to_a_checkpoint_waits_until_it_is_prepared(make_agent: MakeAgent, tmp_path: Path) -> None:
    ultralytics = pytest.importorskip("ultralytics")

    def changes(settings: dict[str, Any]) -> None:
        path = tmp_path / "small.pt"
        network = ultralytics.YOLO("yolov8n.yaml")
        network.ckpt = {}
        network.save(path)
        add(tmp_path, path, "gamma", imgsz=64)
        settings["line"]["line-1"]["products"]["crate"] = "gamma"
        settings["line"]["line-1"]["changeover_timeout_s"] = PATIENCE_S

    agent = make_agent(changes)
    agent.until_said("line/line-1/model/state", "alpha:n@1")
    agent.send("line/line-1/product/set", "crate")
    agent.until_said("line/line-1/phase", "preparing")
    agent.until_said("line/line-1/ready", "crate", deadline_s=PATIENCE_S)
    agent.until_said("line/line-1/model/state", "gamma:n@1")
    agent.until(lambda: agent.value("line/line-1/phase") == "ready")
    phases = [one.payload.decode() for one in agent.on("line/line-1/phase")]
    after = phases[phases.index("preparing") :]
    assert after in (["preparing", "ready"], ["preparing", "switching", "ready"])
    worker = agent.child("agent.inference.process")
    assert not any("torch" in one.path for one in worker.memory_maps())
