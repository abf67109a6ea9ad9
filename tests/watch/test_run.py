"""`changeover watch` against a real broker, as a process of its own."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from support.brokers import Mosquitto, free_port, settings_of
from support.plant_told import BASE, detections, line_state, meta
from support.waiting import DEADLINE_S

from agent.messages.errors import EXIT_FAILED, EXIT_OK
from agent.mqtt.blocking_client import BlockingClient, connected
from agent.settings import Settings
from agent.watch.watch_command import run


def settings(port: int) -> Settings:
    return Settings.model_validate({"device": {"id": "box-7"}, "mqtt": {"url": f"mqtt://127.0.0.1:{port}"}})


def publish_plant(peer: BlockingClient, ready: str = "bottle-500") -> None:
    state = line_state("line-1", "bottle-500", "cap-check:n@3", "ready", "product")
    told: dict[str, object] = {"meta": meta({"line-1": ["cam-1"]}), "line/line-1/state": state}
    for topic, payload in told.items():
        peer.publish(f"{BASE}/{topic}", msgspec.json.encode(payload), retain=True)
    for topic, word in {"status": "online", "line/line-1/ready": ready, "stream/cam-1/status": "online"}.items():
        peer.publish(f"{BASE}/{topic}", word, retain=True)


class Screen:
    """`changeover watch` on a terminal of 100 x 30; `text` is all that it wrote, without control sequences.

    It is started by a process that ignores SIGINT, as a shell does for background jobs.
    """

    def __init__(self, port: int, folder: Path) -> None:
        configuration = folder / "changeover.toml"
        configuration.write_text(f'[device]\nid = "box-7"\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\n')
        self._terminal, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "NO_COLOR": "1"}
        watch = [sys.executable, "-m", "agent", "watch", "--config", str(configuration)]
        command = ["sh", "-c", """trap '' INT; exec "$@\"""", "sh", *watch]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self._raw = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw.decode(errors="replace"))

    def forget(self) -> None:
        self._raw = b""

    def until(self, pattern: str) -> None:
        limit_s = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.text, re.DOTALL):
            assert time.monotonic() < limit_s, f"{pattern!r} not seen in {self.text[-3000:]}"
            self._read()

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and return the exit code; reads on, so that the last words find room."""
        self.process.send_signal(number)
        limit_s = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < limit_s, "it does not end"
            self._read()
        self._read()
        return self.process.returncode

    @property
    def gave_terminal_back(self) -> bool:
        return self._raw.rfind(b"\x1b[?1049l") > self._raw.rfind(b"\x1b[?1049h")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        os.close(self._terminal)

    def _read(self) -> None:
        if select.select([self._terminal], [], [], 0.1)[0]:
            try:
                self._raw += os.read(self._terminal, 65536)
            except OSError:  # its other end is closed
                time.sleep(0.01)


@contextmanager
def watching(port: int, folder: Path) -> Iterator[Screen]:
    screen = Screen(port, folder)
    try:
        yield screen
    finally:
        screen.close()


def test_it_shows_what_is_published_and_ends_well_at_ctrl_c(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with connected(settings_of(mosquitto.url)) as peer, watching(mosquitto.port, tmp_path) as screen:
        publish_plant(peer)
        screen.until(r"box-7 +online +boot 9f3a51c2")
        screen.until(r"line-1 +bottle-500 +cap-check:n@3")
        screen.until(r"none \d\.\d s")
        peer.publish(f"{BASE}/line/line-1/live", "bottle-500", qos=0)
        peer.publish(f"{BASE}/stream/cam-1/detections", msgspec.json.encode(detections("cam-1", 0, ["cap", "cap"])))
        screen.until(r"cam-1 +line-1 +online [^\n]* cap 2")
        assert screen.end(signal.SIGINT) == EXIT_OK
        assert screen.gave_terminal_back


def test_it_gives_the_terminal_back_when_terminated(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with watching(mosquitto.port, tmp_path) as screen:
        screen.until(r"up \d")
        assert screen.end(signal.SIGTERM) == EXIT_OK
        assert screen.gave_terminal_back


def test_a_broker_that_is_away_is_said_and_found_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.kill()
    with watching(mosquitto.port, tmp_path) as screen:
        screen.until(r"away \d.*broker away: ")
        mosquitto.start()
        screen.until(r"up \d")
        mosquitto.freeze()
        screen.forget()
        screen.until(r"broker away: ")
        mosquitto.thaw()
        screen.forget()
        screen.until(r"up \d")
        with connected(settings_of(mosquitto.url)) as peer:
            publish_plant(peer)
        screen.until(r"box-7 +online")
        assert screen.end(signal.SIGINT) == EXIT_OK


def test_without_a_terminal_it_prints_the_device_once(mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
    with connected(settings_of(mosquitto.url)) as peer:
        publish_plant(peer)
    assert run(settings(mosquitto.port)) == EXIT_OK
    said = capsys.readouterr().out
    assert said.count("box-7") == 1
    assert re.search(r"line-1 +bottle-500", said)
    assert "\x1b" not in said


def test_without_a_terminal_and_a_broker_it_says_so_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings(free_port())) == EXIT_FAILED
    assert "broker away" in capsys.readouterr().out
