"""Whether the clock is synchronised, also where the service's sandbox forbids to ask the kernel."""

import ctypes
import time
from pathlib import Path

import pytest

from agent.health import clock_sync

DEADLINE_S = 60.0


class Forbidding:
    """The C library of a process that may not call adjtimex."""

    def adjtimex(self, _timex: object) -> int:
        return -1


@pytest.fixture
def timedatectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file whose content `timedatectl` says, in a process that must not ask the kernel itself."""
    said = tmp_path / "said"
    monkeypatch.setattr(ctypes, "CDLL", lambda *_arguments, **_named: Forbidding())
    monkeypatch.setattr(clock_sync, "_COMMAND", ("cat", str(said)))
    monkeypatch.setattr(clock_sync, "_FIRST_S", DEADLINE_S)
    monkeypatch.setattr(clock_sync, "_timedated", clock_sync._TimedatedClient())
    return said


@pytest.mark.parametrize(("said", "is_synchronised"), [("yes\n", True), ("no\n", False), ("", False)])
def test_the_service_manager_is_asked_where_the_kernel_may_not_be(
    timedatectl: Path, said: str, *, is_synchronised: bool
) -> None:
    timedatectl.write_text(said)
    assert clock_sync.is_synchronised() is is_synchronised


def test_the_answer_is_kept_for_a_while_then_asked_anew_without_waiting(
    timedatectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timedatectl.write_text("no\n")
    assert not clock_sync.is_synchronised()
    timedatectl.write_text("yes\n")
    assert not clock_sync.is_synchronised()
    monkeypatch.setattr(clock_sync._timedated, "_due_s", 0.001)
    limit_s = time.monotonic() + DEADLINE_S
    while not clock_sync.is_synchronised():
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def test_without_timedatectl_it_is_not_known_to_be(timedatectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not timedatectl.exists()
    monkeypatch.setattr(clock_sync, "_COMMAND", ("/nonexistent/timedatectl",))
    assert not clock_sync.is_synchronised()
