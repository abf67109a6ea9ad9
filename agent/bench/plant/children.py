"""Processes of a benchmark: started here, and ended by their ids, whatever happens."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

_STOP_S: Final = 15.0


def say(text: str) -> None:
    """Tell on stderr how far it is."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


@contextmanager
def running(command: Sequence[object], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that writes to `log`; on the way out stop it, and kill what is left of it and of its children."""
    words = [str(word) for word in command]
    with (
        log.open("ab") as output,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as one,
    ):
        try:
            yield one
        finally:
            end(one)


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Stop a process as systemd does: SIGTERM, and SIGKILL when its time is over, also for its children."""
    family = family_of(process.pid)
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_S)
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, _STOP_S)


def family_of(pid: int) -> list[psutil.Process]:
    """Return a process and all its children; nothing where it is gone."""
    try:
        one = psutil.Process(pid)
        return [one, *one.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
