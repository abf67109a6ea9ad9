"""Allowed imports, and the libraries of each process, because a heavy import costs memory for months."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIMES = {"openvino", "onnxruntime", "torch", "ultralytics"}


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.splitlines()[-1].split())


def test_imports_go_downwards_only() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("agent.app.main", RUNTIMES | {"cv2", "rich"}),
        ("agent.capture.camera_process", RUNTIMES | {"paho", "pydantic"}),
        ("agent.inference.process", {"torch", "ultralytics", "paho", "pydantic"}),
        ("agent.control", RUNTIMES | {"cv2", "paho", "numpy"}),
        ("agent.cli", RUNTIMES | {"cv2", "paho", "pydantic", "numpy", "rich"}),
    ],
)
def test_a_process_loads_only_what_it_needs(module: str, never: set[str]) -> None:
    assert loaded_after(f"import {module}").isdisjoint(never)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_load_next_to_nothing(option: str) -> None:
    statement = (
        f"sys.argv = ['changeover', '{option}']\nimport runpy\n"
        "try: runpy.run_module('agent', run_name='__main__')\nexcept SystemExit as end: assert not end.code"
    )
    loaded = loaded_after(statement)
    assert "click" in loaded
    assert loaded.isdisjoint(RUNTIMES | {"cv2", "pydantic", "pydantic_settings", "numpy", "paho", "msgspec"})


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "agent").rglob("*.py")}
    assert lengths
    assert {str(path): length for path, length in lengths.items() if length > 400} == {}
