"""The command line as a user calls it, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import write_tiny_model

from agent.files import file_sha256

Answer = subprocess.CompletedProcess[str]
Command = Callable[..., Answer]

CONFIG = """
[http]
bind = "127.0.0.1:1"
[catalog]
store_dir = "store"
[[stream]]
id = "cam-1"
line = "line-1"
source = "clip.avi"
[line.line-1]
default = "cap-check"
[line.line-1.products]
"17" = "cap-check:n@3"
"""


@pytest.fixture
def changeover(tmp_path: Path) -> Command:
    def call(*arguments: str, **environ: str) -> Answer:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("CHANGEOVER_")}
        command = [sys.executable, "-m", "agent", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=plain | environ, timeout=120
        )

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a good configuration with a catalog of one model."""
    model = write_tiny_model(tmp_path / "cap.onnx")
    (tmp_path / "models.toml").write_text(
        '[[model]]\nname = "cap-check"\nvariant = "n"\nversion = "3"\nfile = "cap.onnx"\n'
        f'sha256 = "{file_sha256(model)}"\n'
    )
    (tmp_path / "clip.avi").write_bytes(b"RIFF....AVI LIST")
    file = tmp_path / "changeover.toml"
    file.write_text(CONFIG)
    return file
