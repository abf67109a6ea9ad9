"""`python -m mutants`, in tests/: change one line at a time, and see whether the tests that should notice do.

Each `[[mutant]]` of the lists beside this file names a file, a piece of text that stands in it once, what replaces it,
and the tests that are to fail then. Files are changed in place, since children import what is installed, and put back.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mutants.lists import ROOT, Mutant, mutants

_TIMEOUT_S = 600.0
_TESTS_FAILED = 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants")
    parser.add_argument("--only", default="", help="Mutants whose file or list holds this word.")
    parser.add_argument("--share", default="1/1", help="The Kth of N parts of the list, as K/N.")
    chosen = parser.parse_args()
    part, parts = (int(number) for number in chosen.share.split("/"))
    todo = [one for one in mutants() if chosen.only in f"{one.origin} {one.file}"][part - 1 :: parts]
    _require_clean({one.file for one in todo})
    _require_green({name for one in todo for name in one.tests})
    survivors = []
    for number, one in enumerate(todo, start=1):
        began_s = time.monotonic()
        is_killed = _is_killed(one)
        verdict = "killed" if is_killed else "SURVIVED"
        sys.stdout.write(f"{number}/{len(todo)} {verdict} in {time.monotonic() - began_s:.0f} s: {one}\n")
        sys.stdout.flush()
        if not is_killed:
            survivors.append(str(one))
    share = 1 - len(survivors) / max(1, len(todo))
    figures = {"mutants": len(todo), "killed_share": round(share, 3), "survivors": survivors}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if not survivors else 1


def _require_clean(files: set[str]) -> None:
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", *sorted(files)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    if changed:
        sys.exit(f"commit or stash first, since files are changed in place:\n{changed}")


def _require_green(tests: set[str]) -> None:
    """Run the tests on the code as it is, because one that fails anyway would seem to kill every mutant."""
    for one in sorted(tests):
        done = _tested((one,))
        if done.returncode:
            sys.exit(f"{one} fails without any change:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _tested(tests: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}  # "." would be another folder for each child
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
    )


def _is_killed(one: Mutant) -> bool:
    with _changed(one):
        try:
            done = _tested(one.tests)
        except subprocess.TimeoutExpired:
            return True  # the change hangs what it breaks
    if done.returncode not in {0, _TESTS_FAILED}:
        sys.exit(f"{one}: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == _TESTS_FAILED


@contextmanager
def _changed(one: Mutant) -> Iterator[None]:
    path = ROOT / one.file
    before = path.read_bytes()
    try:
        path.write_text(one.applied_to(before.decode()))
        yield
    finally:
        path.write_bytes(before)


if __name__ == "__main__":
    sys.exit(main())
