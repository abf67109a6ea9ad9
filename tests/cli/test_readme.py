"""The README's first steps work as printed, in their order."""

import os
import subprocess
import sys
from pathlib import Path

from support.page import blocks, toml
from support.tiny_models import write_tiny_model

PAGE = Path(__file__).parents[2] / "README.md"


def test_the_smallest_configuration_passes_check_after_the_printed_steps(tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text(toml(PAGE))
    for name in ("cap-check", "label-check"):
        write_tiny_model(tmp_path / f"{name}.onnx")
    (steps,) = [text for kind, text in blocks(PAGE) if kind == "sh" and "changeover check" in text]
    script = f'set -e\nchangeover() {{ "{sys.executable}" -m agent "$@"; }}\n{steps}'
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("CHANGEOVER_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\nok: 1 line, 1 stream, 2 products, 2 models" in ended.stdout
