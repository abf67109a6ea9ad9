"""The walls around an engine's build, tried from inside: threads and address space are free, everybody else is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.processes.walls import missing_walls, syscalls

pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"this kernel lacks {', '.join(missing_walls())}")

INSIDE = """
import fcntl, json, mmap, os, signal, socket, sys, termios, threading
from pathlib import Path
from agent.inference import sandbox
own, beside, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sandbox.enter(own, sandbox.Limits(memory_bytes=0, cpu_s=60, wall_s=60.0, disk_bytes=1 << 20), for_gpu=True)
def fork():
    if os.fork() == 0:
        os._exit(0)
ways = {
    "a socket": socket.socket,
    "a pair of sockets": socket.socketpair,
    "a process": fork,
    "a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "a signal": lambda: os.kill(parent, 0),
    "a file beside": lambda: (beside / "new").touch(),
    "reading beside": lambda: (beside / "kept").read_text(),
    "a mode beside": lambda: (beside / "kept").chmod(0o777),
    "a time beside": lambda: os.utime(beside / "kept", (0, 0)),
    "an end beside": lambda: os.truncate(beside / "kept", 0),
    "words for a terminal": lambda: fcntl.ioctl(1, termios.TIOCSTI, b"x"),
    "a disk beyond its limit": lambda: (own / "large").write_bytes(bytes(2 << 20)),
}
could = []
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for name, way in ways.items():
    try:
        way()
        could.append(name)
    except OSError:
        pass
did = []
thread = threading.Thread(target=lambda: did.append("a thread"))
thread.start()
thread.join()
mmap.mmap(-1, 64 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
did.append("64 GiB of addresses")
(own / "file").write_text("own")
did.append("a file of its own")
(own / "said.json").write_text(json.dumps([could, did]))
os._exit(0)
"""


def test_a_build_has_threads_and_addresses_and_nothing_of_others(tmp_path: Path) -> None:
    own, beside = tmp_path / "own", tmp_path / "beside"
    own.mkdir()
    beside.mkdir()
    (beside / "kept").write_text("kept")
    command = [sys.executable, "-I", "-c", INSIDE, str(own), str(beside), str(os.getpid())]
    subprocess.run(command, check=True, timeout=120)
    could, did = json.loads((own / "said.json").read_text())
    assert could == []
    assert did == ["a thread", "64 GiB of addresses", "a file of its own"]
    assert (beside / "kept").read_text() == "kept"


def test_every_refused_call_is_one_that_a_kernel_has() -> None:
    """A call whose name is wrong would stay allowed, and nobody would see it."""
    of_other_processors = {
        "fork",
        "vfork",
        "utime",
        "utimes",
        "futimesat",
        "mknod",
        "chmod",
        "chown",
        "lchown",
        "accept",
    }
    newer = {"setxattrat", "removexattrat", "file_setattr", "fchmodat2", "iopl", "ioperm", "lookup_dcookie"}
    assert syscalls.unknown(syscalls._REFUSED_WITH_GPU) <= of_other_processors | newer
