"""Processes that load or measure models give memory back (decision 48); threads of the worker have heaps (214)."""

import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from agent.app.children.memory_budget import Budgets
from agent.app.children.worker import Share, worker_spec
from agent.doctor.subprocess_runner import run_apart
from agent.messages.children import MemoryLimit
from agent.models import preparation
from agent.models.child_environment import FOR_MODELS, FOR_WORKER
from agent.processes.slots.frame_slot import FrameSlot
from agent.settings import load

SHARE = Share(MemoryLimit(1 << 30), Budgets(1 << 30))
CONFIG = """
[[stream]]
id = "cam-1"
line = "line-1"
source = "belt.avi"

[line.line-1]
default = "cap-check"
"""


def test_the_worker_has_it(tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text(CONFIG, encoding="utf-8")
    with closing(FrameSlot.create("cam-1")) as slot:
        spec = worker_spec(load(tmp_path / "changeover.toml", {}), "default", {"cam-1": slot}, lambda: SHARE)
    assert spec.environment is not None
    assert spec.environment.items() >= FOR_WORKER.items()


def test_a_preparation_has_it() -> None:
    assert preparation._environment().items() >= FOR_MODELS.items()


def test_a_trial_of_doctors_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def run(command: list[str], *, env: dict[str, str], **_: object) -> "subprocess.CompletedProcess[bytes]":
        given.update(env)
        return subprocess.CompletedProcess(command, 0, b"{}\n", b"")

    monkeypatch.setattr(subprocess, "run", run)
    assert run_apart("a.trial", [], b"", 1.0) == b"{}"
    assert given.items() >= FOR_MODELS.items()
