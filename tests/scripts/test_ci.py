""".ci/run: which parts fail it, and that each part's words are found in its output."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci/run"
CLOSING = "=== 5 passed in 3.00s ==="
STANDS_IN = """#!/bin/bash
name="$(basename "$0")"
[ "${1:-}" != --suite ] || name=thirteen
echo "$name speaks"
[ "$name" != test ] || echo "=== 5 passed in 3.00s ==="
for status in $STATUSES; do [ "${status%=*}" != "$name" ] || exit "${status#*=}"; done
"""


def run(folder: Path, statuses: str) -> tuple[int, list[str]]:
    """Run it with scripts that speak, and end with these statuses or with 0; return its own and its lines."""
    (folder / ".ci").mkdir()
    (folder / "scripts").mkdir()
    shutil.copy(RUN, folder / ".ci/run")
    for name in ("test", "test-systemd", "check"):
        script = folder / "scripts" / name
        script.write_text(STANDS_IN)
        script.chmod(0o755)
    said = subprocess.run(
        [folder / ".ci/run"],
        env={**os.environ, "STATUSES": statuses},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return said.returncode, said.stdout.splitlines()


@pytest.mark.parametrize(
    ("statuses", "failed"),
    [
        ("", []),
        ("test=1", ["tests (status 1)"]),
        ("test-systemd=1", ["service on Debian 12 (status 1)"]),
        ("thirteen=2", ["service on Debian 13 (status 2)"]),
        ("check=1", ["static checks (status 1)"]),
        ("test-systemd=77 thirteen=77", []),
        ("test-systemd=77 check=1 test=5", ["tests (status 5)", "static checks (status 1)"]),
        ("check=77 test=77", ["tests (status 77)", "static checks (status 77)"]),
    ],
)
def test_any_part_but_a_container_that_cannot_be_fails_it(tmp_path: Path, statuses: str, failed: list[str]) -> None:
    status, lines = run(tmp_path, statuses)
    assert status == bool(failed)
    assert [line.removeprefix("failed: ") for line in lines if line.startswith("failed: ")] == failed
    assert lines[-1] == CLOSING
    for name, heading in (
        ("test", "tests"),
        ("test-systemd", "service on Debian 12"),
        ("thirteen", "service on Debian 13"),
        ("check", "static checks"),
    ):
        assert lines[lines.index(f"== {heading}") + 1] == f"{name} speaks"
