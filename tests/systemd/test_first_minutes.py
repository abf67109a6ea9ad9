"""The first minutes on a bare, booted Debian: the steps of docs/operations.md, typed as they stand, to `ready`."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.brokers import Mosquitto
from support.machine import PACKAGES, ROOT, Machine
from support.page import blocks

PAGE = ROOT / "docs" / "operations.md"
WITHIN_S = 180.0
OWN_MODEL = ROOT / "config/demo/line-1/cap-check-n-1.onnx"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Machine]:
    """Give a bare machine, with what a user brings: a model, a video file, the package and a checkout."""
    made = Machine(Path(os.environ["CHANGEOVER_TEST_MACHINE"]), tmp_path, tree="bare")
    try:
        home = made.root / "root"
        shutil.copy(OWN_MODEL, home / "best.onnx")
        writer = cv2.VideoWriter(str(home / "belt.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
        for shade in range(50):
            writer.write(np.full((240, 320, 3), shade * 5, np.uint8))
        writer.release()
        made.boot()
        yield made
    finally:
        made.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Mosquitto(folder, persistence=False, more=())
    made.start()
    yield made
    made.kill()


def typed(way: str, port: int) -> list[str]:
    """Return the page's blocks that lead from nothing to `ready`, with this broker's address."""
    of_install = [text for kind, text in blocks(PAGE) if kind == "sh"]
    (first,) = [text for text in of_install if way in text and "sudo" in text and "--rollback" not in text][:1]
    (rest,) = [text for text in of_install if "best.onnx" in text and "switch line-1" in text]
    return [first, rest.replace("BROKER:1883", f"127.0.0.1:{port}")]


@pytest.mark.parametrize("way", ["apt-get install", "scripts/install"])
def test_from_nothing_to_ready_as_the_page_says(bare: Machine, broker: Mosquitto, way: str) -> None:
    home = bare.root / "root"
    if way == "apt-get install":
        bare.run("sh", "-c", f"cp {PACKAGES}/changeover_0.9.1+*.deb /root/")
        place = "/root"
    else:
        place = "/root/changeover"
        _clone(home / "changeover")
        shutil.copy(home / "best.onnx", home / "changeover")
        shutil.copy(home / "belt.avi", home / "changeover")
    text = "\n".join(typed(way, broker.port))
    # every step is typed whatever became of the one before it, and those that failed are counted; there is no sudo here
    script = f'cd {place}; sudo() {{ "$@"; }}; set -E; trap \'echo "failed: $BASH_COMMAND" >&2\' ERR\n{text}\ntrue\n'
    begun_s = time.monotonic()
    answer = bare.run("bash", "-c", script, fetches=True)
    took_s = time.monotonic() - begun_s
    failed = [line for line in answer.stderr.splitlines() if line.startswith("failed: ")]
    print(f"{way}: {took_s:.0f} s, failed steps {len(failed)}")  # noqa: T201 - figures for the docs
    assert failed == [], answer.stdout[-3000:] + answer.stderr[-3000:]
    assert "ready" in answer.stdout
    assert bare.shows("ActiveState") == "active"
    assert took_s <= WITHIN_S


def _clone(folder: Path) -> None:
    """Put a checkout where a user has one: what git knows, and what is not ignored."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
