"""Subprocesses of a benchmark, always stopped at its end, by process id."""

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
    """Print progress on stderr."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


@contextmanager
def running(command: Sequence[object], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that writes to `log`; on exit stop it, and kill its remaining descendants."""
    words = [str(word) for word in command]
    with (
        log.open("ab") as output,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as one,
    ):
        try:
            yield one
        finally:
            end(one)


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]", patience_s: float = _STOP_S) -> None:
    """Stop a process and its descendants as systemd does: SIGTERM, then SIGKILL after `patience_s`."""
    family = family_of(process.pid)
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_S)
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, _STOP_S)


def family_of(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; empty where it has ended."""
    try:
        one = psutil.Process(pid)
        return [one, *one.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def runs(process: psutil.Process, module: str) -> bool:
    """Return True where a process runs a module; False for one that has ended, reaped or not."""
    try:
        return any(module in word for word in process.cmdline())
    except psutil.Error:
        return False


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
