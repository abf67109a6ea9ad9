"""Messages over $NOTIFY_SOCKET, byte for byte."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.health.systemd import Notifier, Watchdog


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found: list[str] = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(4096).decode())
        return found


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(path: str) -> Iterator[Manager]:
    made = Manager(path)
    yield made
    made.socket.close()


def test_each_word_is_said_as_sd_notify_has_it(path: str, manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path})
    before_us = time.monotonic_ns() // 1000
    notifier.ready()
    notifier.reloading()
    notifier.status("2 of 2 lines ready\nand more")
    notifier.alive()
    notifier.stopping()
    notifier.close()
    ready, reloading, *others = manager.heard()
    assert ready == "READY=1"
    first, second = reloading.split("\n")
    assert first == "RELOADING=1"
    assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert others == ["STATUS=2 of 2 lines ready and more", "WATCHDOG=1", "STOPPING=1"]


def test_a_status_that_did_not_change_is_not_said_again(path: str, manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path})
    for text in ("one", "one", "two", "x" * 1000):
        notifier.status(text)
    notifier.close()
    assert [len(one) for one in manager.heard()] == [len("STATUS=one"), len("STATUS=two"), len("STATUS=") + 200]


def test_an_abstract_socket_and_none_at_all() -> None:
    name = f"changeover-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
    notifier.ready()
    assert manager.heard() == ["READY=1"]
    notifier.close()
    manager.socket.close()
    quiet = Notifier({})
    quiet.ready()
    quiet.close()


def test_a_manager_that_is_gone_or_does_not_read_holds_nothing_up(
    path: str, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path})
    caplog.set_level(logging.INFO)
    for _ in range(2000):
        notifier.alive()
    notifier.ready()
    assert "event=notify_waits" in caplog.text
    assert set(manager.heard()) == {"WATCHDOG=1"}
    notifier.status("first")
    assert manager.heard()[-2:] == ["READY=1", "STATUS=first"], "what was owed comes first"
    Path(path).unlink()
    notifier.status("second")
    assert "event=notify_failed" in caplog.text
    notifier.close()


def test_children_do_not_inherit_the_words(path: str) -> None:
    environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier(environ)
    assert environ == {"HOME": "/"}
    assert notifier.watchdog_s == 30.0
    notifier.close()


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}],
)
def test_no_watchdog_is_asked_for(environ: dict[str, str], path: str, manager: Manager) -> None:
    notifier = Notifier({**environ, "NOTIFY_SOCKET": path})
    assert notifier.watchdog_s is None
    Watchdog(notifier).tick(1.0, [])
    assert manager.heard() == []
    notifier.close()


def test_signs_of_life_come_three_a_period_and_stop_while_a_loop_is_late(
    path: str, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
    watchdog = Watchdog(notifier)
    for tenth in range(300):
        watchdog.tick(100 + tenth / 10, [])
    assert manager.heard() == ["WATCHDOG=1"] * 3
    for tenth in range(300):
        watchdog.tick(130 + tenth / 10, ["worker", "camera_cam-1"])
    assert manager.heard() == []
    assert caplog.text.count("event=watchdog_withheld loops=worker,camera_cam-1") == 1
    watchdog.tick(161.0, [])
    assert manager.heard() == ["WATCHDOG=1"]
    notifier.close()
