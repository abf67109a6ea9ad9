"""The scripts' set-up: what it says when something cannot be had, and that a second run does nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "scripts" / "lib" / "setup.sh"
SHELL = sorted(
    str(one.relative_to(ROOT))
    for one in (*(ROOT / "scripts").iterdir(), *(ROOT / "scripts/lib/deb").iterdir(), ROOT / ".ci" / "run")
    if one.is_file() and re.match(r"#!.*\bbash\b", one.read_text(encoding="utf-8"))
)
"""The programs that are shell; shellcheck reads the files that they source as well."""


def shell(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / ".cache").mkdir(exist_ok=True)
    command = ["bash", "-c", f"set -euo pipefail\n. '{SETUP}'\n{text}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=60)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("OSError: [Errno 28] No space left on device", "no space left"),
        ("Temporary failure resolving 'deb.debian.org'", "no network"),
        ("NewConnectionError: [Errno 101] Network is unreachable\nERROR: No matching distribution found", "no network"),
        ("SSLError: CERTIFICATE_VERIFY_FAILED", "certificate is not trusted"),
        ("error: [Errno 13] Permission denied: '/x'", "no permission"),
        ("ERROR: No matching distribution found for openvino", "no package for this Python and machine"),
        ("E: Unable to locate package libgl1", "Unable to locate package libgl1"),
        ("something new", "see .cache/setup.log"),
    ],
)
def test_a_failure_ends_with_one_line_that_says_why(tmp_path: Path, said: str, reason: str) -> None:
    (tmp_path / "said").write_text(said + "\n")
    answer = shell(tmp_path, "fetching() { cat said; return 1; }\nstep 'fetching things' fetching\necho not reached")
    last = answer.stderr.splitlines()[-1]
    assert answer.returncode == 1
    assert last.startswith("setup failed: fetching things: ")
    assert reason in last
    assert "not reached" not in answer.stdout


def test_a_fresh_system_without_a_network_says_that_and_not_that_a_package_is_unknown(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text(
        "#!/bin/sh\nif [ $1 = update ]; then echo \"W: Failed to fetch http://x/  Temporary failure resolving 'x'\"; "
        "else echo 'E: Unable to locate package libgl1'; exit 100; fi\n"
    )
    apt.chmod(0o755)
    (programs / "sudo").write_text('#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n')
    (programs / "sudo").chmod(0o755)
    answer = shell(tmp_path, f"PATH={programs}:$PATH\ninstall_packages libgl1\necho not reached")
    assert answer.returncode == 1
    assert "no network" in answer.stderr.splitlines()[-1]
    assert "not reached" not in answer.stdout


def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.11 || echo "$@" >>calls\n')
    python.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("one")
    install = 'packages "[dev]" light base\npackages "" base\n'
    assert shell(tmp_path, install + install).returncode == 0
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    (tmp_path / "pyproject.toml").write_text("two")
    assert shell(tmp_path, install).returncode == 0
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_a_failed_installation_is_tried_again(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = --version ] || exit 1\n')
    python.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("one")
    assert shell(tmp_path, 'packages "" base').returncode == 1
    assert not (tmp_path / ".venv" / ".setup-base").exists()


def test_an_old_python_is_not_taken(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    answer = shell(tmp_path, f"PYTHON='{old}' find_python")
    assert str(old) not in answer.stdout


def test_scripts_can_be_run() -> None:
    assert {"scripts/demo", "scripts/install", "scripts/test", ".ci/run"} <= set(SHELL)
    assert [name for name in SHELL if not (ROOT / name).stat().st_mode & 0o111] == []


def test_shellcheck_finds_nothing_to_say() -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("shellcheck", path=places)
    assert program, "no shellcheck: scripts/test installs it with the extra `dev`"
    said = subprocess.run([program, "-x", *SHELL], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 0, said.stdout + said.stderr
