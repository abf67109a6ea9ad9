"""Killed at random moments, the supply process, its parent or both leave nothing wrong, and the next job goes on."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served
from support.waiting import until

CONTENT = content_of(400_000)
LONGEST_S = 2.5
"""About as long as the command takes from its start to its end."""


def kill_at(parent: "subprocess.Popen[bytes]", after_s: float, who: str) -> None:
    """Kill the command, the supply process that it started, or both; then wait until both are gone."""
    time.sleep(after_s)  # the moment is what is drawn
    with suppress(psutil.NoSuchProcess):
        command = psutil.Process(parent.pid)
        children = command.children(recursive=True)
        for process in [*(children if who != "parent" else []), *([command] if who != "child" else [])]:
            process.kill()
        until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    parent.wait()


@pytest.mark.parametrize("moments", [4, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(5400)])])
def test_at_random_moments(server: FileServer, tmp_path: Path, moments: int) -> None:
    chance = random.Random(moments)
    server.files["/cap.onnx"] = Served(CONTENT, pause_s=0.005)
    model = entry(server.url("/cap.onnx"), CONTENT)
    rows = "\n".join(f'{key} = "{value}"' for key, value in model.items())
    (tmp_path / "models.toml").write_text(f"[[model]]\n{rows}\n")
    found_whole = 0
    for moment in range(moments):
        fetches = Fetches(tmp_path / str(moment))
        fetches.folder.mkdir()
        config = fetches.folder / "changeover.toml"
        config.write_text(
            f'version = 1\n[device]\nid = "box"\nstate_dir = "{fetches.folder}/state"\n[mqtt]\nurl = "embedded"\n'
            f'[catalog]\nfile = "{tmp_path}/models.toml"\nstore_dir = "{fetches.store_dir}"\nmin_free = 0\n'
        )
        command = [sys.executable, "-m", "agent", "models", "fetch", "--config", str(config)]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
            kill_at(parent, chance.uniform(0.3, LONGEST_S), chance.choice(("child", "parent", "both")))
        for found in fetches.store_dir.glob("sha256/*/model.onnx"):
            assert found.read_bytes() == CONTENT
            found_whole += 1
        before_bytes = server.sent_bytes
        fetches.fetch(model)
        fetches.require_only(CONTENT)
        assert server.sent_bytes - before_bytes <= len(CONTENT)
    assert found_whole < moments
