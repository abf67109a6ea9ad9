"""A real broker that a test starts, freezes, kills and starts again; what it retains; and ports for it."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings, ProtocolSetting
from support.waiting import DEADLINE_S

_PORTS: Final = 20_000
_WORKERS: Final = 16


class Mosquitto:
    """One broker on one port, which it keeps over restarts."""

    def __init__(self, folder: Path, *, persistence: bool, more: tuple[str, ...]) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "set_tcp_nodelay true",
            "log_type all",
            *(["user root"] if os.geteuid() == 0 else []),
            *([] if any(line.startswith("allow_anonymous") for line in more) else ["allow_anonymous true"]),
            *more,
        ]
        if persistence:
            lines += ["persistence true", f"persistence_location {folder}/"]
            lines += ["autosave_on_changes true", "autosave_interval 1"]
        self._configuration.write_text("\n".join(lines) + "\n")

    def configure(self, text: str) -> None:
        """Take another configuration, which must listen on `port`."""
        self._configuration.write_text(f"user root\n{text}" if os.geteuid() == 0 else text)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def log(self) -> str:
        """Return all that it logged."""
        return (self._folder / "log").read_text()

    def start(self, deadline_s: float = 20) -> None:
        """Return when it listens; another process may have taken the port for a moment, so this tries again."""
        limit_s = time.monotonic() + deadline_s
        while True:
            self._spawn()
            while self._process is not None and self._process.poll() is None:
                if _listens(self.port):
                    return
                assert time.monotonic() < limit_s, "mosquitto does not listen"
                time.sleep(0.01)
            assert time.monotonic() < limit_s, (self._folder / "log").read_text()
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, also when frozen; returns when it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(20)

    def restart(self) -> None:
        """SIGKILL and start again: what was not persisted is gone."""
        self.kill()
        self.start()

    def _spawn(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None, "mosquitto is needed: apt-get install mosquitto"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", self._configuration], stdout=log, stderr=log)


def free_port() -> int:
    """Return a loopback port that nobody takes while whoever it is for is down.

    It is below those that the system gives to connections, and no other worker of this run draws from the same ones.
    """
    for port in _CANDIDATES:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def _candidates() -> Iterator[int]:
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    size = (end - _PORTS) // _WORKERS
    assert size > 100, f"the system gives the ports from {end} on to connections, and too few are left below"
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    ours = range(_PORTS + worker * size, _PORTS + (worker + 1) * size)
    place = random.randrange(size)  # because another run on this machine draws from the same ones
    while True:
        yield ours[place]
        place = (place + 1) % size


_CANDIDATES: Final = _candidates()


def retained(url: str, filter_: str) -> dict[str, bytes]:
    """Return what the broker retains on the topics of a filter."""
    found: dict[str, bytes] = {}
    with connected(settings_of(url)) as peer:
        marker = f"marker/{uuid.uuid4()}"
        peer.subscribe([filter_, marker], timeout_s=DEADLINE_S)
        peer.publish(marker, b"behind what is retained", timeout_s=DEADLINE_S)
        while (arrival := peer.receive(DEADLINE_S)) is not None:
            if arrival.topic == marker:
                return found
            if arrival.retained:
                found[arrival.topic] = arrival.payload
    raise AssertionError("the broker does not answer")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def settings_of(url: str, client_id: str = "", protocol: ProtocolSetting = "auto") -> LinkSettings:
    """Return the settings of a plain client of a broker at `mqtt://HOST[:PORT]`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return LinkSettings(parts.hostname, parts.port or 1883, client_id, protocol=protocol)
