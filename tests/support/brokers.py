"""A real broker that a test starts, freezes, kills and starts again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from agent.mqtt.endpoint.link_settings import LinkSettings, ProtocolSetting


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
