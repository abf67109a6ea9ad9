"""Killed at random moments, the supply process, its parent or both leave nothing wrong, and the next job goes on."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served
from support.waiting import until

CONTENT: Final = content_of(400_000)
AT_ONCE: Final = 4
"""Commands that run side by side, because each waits for much of its time."""
FIRST_S: Final = 0.3


class Moment:
    """One command that fetches a model into a store of its own."""

    def __init__(self, server: FileServer, folder: Path, number: int) -> None:
        self._server: Final = server
        self.path: Final = f"/{number}.onnx"
        server.files[self.path] = Served(CONTENT, pause_s=0.005)
        self.model: Final[dict[str, Any]] = entry(server.url(self.path), CONTENT)
        self.fetches: Final = Fetches(folder / str(number))
        self.fetches.folder.mkdir()
        rows = "\n".join(f'{key} = "{value}"' for key, value in self.model.items())
        (self.fetches.folder / "models.toml").write_text(f"[[model]]\n{rows}\n")
        self._config: Final = self.fetches.folder / "changeover.toml"
        self._config.write_text(
            f'version = 1\n[device]\nid = "box"\nstate_dir = "{self.fetches.folder}/state"\n[mqtt]\nurl = "embedded"\n'
            f'[catalog]\nfile = "models.toml"\nstore_dir = "{self.fetches.store_dir}"\nmin_free = 0\n'
        )

    def run(self, meanwhile: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        """Start the command, and return once it has ended."""
        command = [sys.executable, "-m", "agent", "models", "fetch", "--config", str(self._config)]
        folder = self.fetches.folder
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
            meanwhile(parent)
            parent.wait()

    def took_s(self) -> float:
        """Run the command undisturbed; return how long it took."""
        began_s = time.monotonic()
        self.run(lambda _parent: None)
        self.fetches.require_only(CONTENT)
        return time.monotonic() - began_s

    def is_whole_after_a_kill(self, after_s: float, who: str) -> bool:
        """Kill the command; return whether the model was whole by then. Nothing is wrong, and the next job goes on."""
        self.run(lambda parent: kill_at(parent, after_s, who))
        found = list(self.fetches.store_dir.glob("sha256/*/model.onnx"))
        assert all(one.read_bytes() == CONTENT for one in found)
        until(lambda: not self._server.answering[self.path])  # it may still send to who is gone
        before_bytes = self._server.sent_of[self.path]
        self.fetches.fetch(self.model)
        self.fetches.require_only(CONTENT)
        assert self._server.sent_of[self.path] - before_bytes <= len(CONTENT)
        return bool(found)


def kill_at(parent: "subprocess.Popen[bytes]", after_s: float, who: str) -> None:
    """Kill the command, the supply process that it started, or both; then wait until both are gone."""
    time.sleep(after_s)  # the moment is what is drawn
    with suppress(psutil.NoSuchProcess):
        command = psutil.Process(parent.pid)
        children = command.children(recursive=True)
        for process in [*(children if who != "parent" else []), *([command] if who != "child" else [])]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


@pytest.mark.parametrize("moments", [4, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_at_random_moments(server: FileServer, tmp_path: Path, moments: int) -> None:
    chance = random.Random(moments)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = [Moment(server, tmp_path, -1 - number) for number in range(AT_ONCE)]
        longest_s = max(pool.map(Moment.took_s, whole))
        draws = [
            (chance.uniform(FIRST_S, longest_s), chance.choice(("child", "parent", "both"))) for _ in range(moments)
        ]
        killed = [Moment(server, tmp_path, number) for number in range(moments)]
        found_whole = list(pool.map(lambda one, draw: one.is_whole_after_a_kill(*draw), killed, draws))
    assert sum(found_whole) < moments
