"""Embedded mosquitto on loopback for trials and the demo, restarted when it ends."""

import logging
import os
import pwd
import shutil
import socket
import subprocess
import threading
from typing import Any, Final

from agent.messages.errors import NotStartedError
from agent.processes.backoff import Backoff
from agent.processes.parent_death import ending_with_us

HOST: Final = "127.0.0.1"
_ACCOUNT: Final = "mosquitto"
_PLACES: Final = "/usr/sbin:/usr/local/sbin"
"""Package folders that are not on a user's PATH."""
_RUNNING: Final = " running"
_ERROR: Final = "Error: "
_START_S: Final = 20.0
_STOP_S: Final = 5.0
_TRIES: Final = 5
_LONGEST_LINE: Final = 4096
_log: Final = logging.getLogger(__name__)


class EmbeddedBroker:
    """One mosquitto on a loopback port, open to every client, without persistence.

    Threading: one thread starts it, waits for its end, and restarts it on the same port. `restarts` counts that.
    """

    def __init__(self, port: int) -> None:
        """Store the port; 0 chooses a free one."""
        self.port = port
        self.restarts = 0
        self._chooses: Final = port == 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Final = threading.Lock()
        self._settled: Final = threading.Event()
        self._stopping: Final = threading.Event()
        self._is_running = False
        self._last_error = ""
        self._thread: Final = threading.Thread(target=self._run, name="embedded broker", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the running mosquitto; None while none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start, and wait until it listens. Raises NotStartedError, which says why, where it does not."""
        program = find_mosquitto()
        if program is None:
            raise NotStartedError(
                "the embedded broker needs mosquitto: apt-get install mosquitto, or set mqtt.url to your own broker"
            )
        self._thread.start()
        self._settled.wait(_START_S)
        if not self._is_running:
            self.stop()
            why = self._last_error or "mosquitto says nothing"
            raise NotStartedError(f"the embedded broker cannot start on {HOST}:{self.port}: {why}")

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self._stopping.set()
        with self._guard:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join()

    def _run(self) -> None:
        backoff = Backoff()
        for _ in range(_TRIES if self._chooses else 1):
            if self._chooses:
                self.port = _free_port()
            self._serve()
            if self._is_running or self._stopping.is_set():
                break
        self._settled.set()
        while self._is_running and not self._stopping.wait(backoff.next_s()):
            self.restarts += 1
            self._serve()

    def _serve(self) -> None:
        """Run one mosquitto until it ends, which the end of its log reveals."""
        process = self._spawn()
        if process is None:
            return
        log = process.stderr
        assert log is not None, "it was asked for"
        with log:
            while line := log.readline(_LONGEST_LINE):
                self._take(line.decode(errors="replace").strip())
        code = process.wait()
        if self._is_running and not self._stopping.is_set():
            _log.error("event=embedded_broker_lost port=%d exit_code=%d detail=%r", self.port, code, self._last_error)

    def _spawn(self) -> "subprocess.Popen[bytes] | None":
        program = find_mosquitto()
        with self._guard:
            if self._stopping.is_set() or program is None:
                return None
            configuration = _configuration_file(self.port)
            try:
                command = ending_with_us([program, "-c", f"/proc/self/fd/{configuration}"])
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(configuration,),
                    start_new_session=True,  # because a Ctrl-C must not end it before the agent has disconnected
                    **_without_root(),
                )
            except OSError as error:
                self._last_error = str(error)
                return None
            finally:
                os.close(configuration)
            return self._process

    def _take(self, line: str) -> None:
        if line.endswith(_RUNNING):
            self._is_running = True
            self._settled.set()
            _log.info("event=embedded_broker port=%d version=%r", self.port, line.removesuffix(_RUNNING))
        elif line.startswith((_ERROR, "Warning: ")):
            self._last_error = line.removeprefix(_ERROR)
            _log.log(
                logging.WARNING if self._is_running else logging.DEBUG, "event=embedded_broker_says detail=%r", line
            )


def find_mosquitto() -> str | None:
    """Return the path of mosquitto; None where it is not installed."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{_PLACES}")


def _configuration_file(port: int) -> int:
    """Return a descriptor of the configuration in memory, so that no file remains after a kill."""
    lines = (
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "persistence false",
        "set_tcp_nodelay true",
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "log_type information",
        "connection_messages false",
        *(["user root"] if os.geteuid() == 0 else []),  # because `_without_root` chose the account
    )
    fd = os.memfd_create("mosquitto.conf")
    os.write(fd, ("\n".join(lines) + "\n").encode())
    return fd


def _without_root() -> dict[str, Any]:
    """Return Popen's arguments for the account of mosquitto's package; empty without root or that account."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
