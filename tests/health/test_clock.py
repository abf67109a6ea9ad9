"""Synchronisation of the clock, also where the service's sandbox forbids to ask the kernel."""

import ctypes
from pathlib import Path

import pytest
from support.waiting import DEADLINE_S, until

from agent.health.clock_sync import TimedatedClient, is_synchronised


class Forbidding:
    """The C library of a process that may not call adjtimex."""

    def adjtimex(self, _timex: object) -> int:
        return -1


class Timedatectl:
    """A file whose content `timedatectl` says, for a process that must not ask the kernel itself."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.now_s = 1000.0
        self.client = TimedatedClient(("cat", str(file)), DEADLINE_S, lambda: self.now_s)

    def is_synchronised(self) -> bool:
        return is_synchronised(self.client)


@pytest.fixture
def timedatectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timedatectl:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_arguments, **_named: Forbidding())
    return Timedatectl(tmp_path / "said")


@pytest.mark.parametrize(("said", "expected"), [("yes\n", True), ("no\n", False), ("", False)])
def test_the_service_manager_is_asked_where_the_kernel_may_not_be(
    timedatectl: Timedatectl, said: str, *, expected: bool
) -> None:
    timedatectl.file.write_text(said)
    assert timedatectl.is_synchronised() is expected


def test_the_answer_is_kept_for_a_while_then_asked_anew_without_waiting(timedatectl: Timedatectl) -> None:
    timedatectl.file.write_text("no\n")
    assert not timedatectl.is_synchronised()
    timedatectl.file.write_text("yes\n")
    assert not timedatectl.is_synchronised()
    timedatectl.now_s += 11
    until(timedatectl.is_synchronised)


@pytest.mark.usefixtures("timedatectl")
def test_without_timedatectl_it_is_not_known_to_be() -> None:
    assert not is_synchronised(TimedatedClient(("/nonexistent/timedatectl",)))
