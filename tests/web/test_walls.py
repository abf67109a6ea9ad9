"""Whoever takes the web process over finds no file, starts no program, and reaches nobody."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.gateway_plant import GatewayPlant

from agent.processes.walls import missing_walls

pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"this kernel lacks {', '.join(missing_walls())}")

KEPT = 1 << 10 | 1 << 1  # low ports, and for root the files of the service
INSIDE = """
import ctypes, json, mmap, os, signal, socket, sys, threading
from pathlib import Path
own, secret, port, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), os.getppid()
shared = os.memfd_create("block")
os.ftruncate(shared, 1 << 16)
from agent.web.serving import walls
stand = walls.close_in(own)

def listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        try:
            listener.accept()
        except BlockingIOError:
            return

def decodes():
    import io
    from PIL import Image
    from agent.web.gateway.core.pictures import decoding
    for kind in ("JPEG", "PNG", "WEBP"):
        made = io.BytesIO()
        Image.new("RGB", (8, 8)).save(made, kind)
        assert decoding.decode(made.getvalue(), memoryview(bytearray(192))) == ((8, 8), (8, 8))

def has_threads():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()

def keeps_its_file():
    from agent.files import replace_file
    replace_file(own / "sessions.json", b"[]", sync=True, mode=0o600)
    assert (own / "sessions.json").read_bytes() == b"[]"

def shares_memory():
    memory = mmap.mmap(shared, 1 << 16)
    memory[:4] = b"data"
    memory.madvise(mmap.MADV_REMOVE, 4096, 4096)

def connects(kind):
    with socket.socket(socket.AF_INET, kind) as one:
        one.connect(("127.0.0.1", port))

def connects_fast():
    with socket.socket() as one:
        one.sendto(b"x", 0x20000000, ("127.0.0.1", port))

def forks():
    if os.fork() == 0:
        os._exit(0)

must = [listens, decodes, has_threads, keeps_its_file, shares_memory, lambda: __import__("sqlite3")]
must_not = {
    "read passwords": lambda: Path("/etc/passwd").read_bytes(),
    "read a key": lambda: secret.read_bytes(),
    "list its folder": lambda: os.listdir(secret.parent),
    "read another's memory": lambda: open(f"/proc/{parent}/mem", "rb"),
    "read another's environment": lambda: open(f"/proc/{parent}/environ", "rb"),
    "write a file": lambda: secret.write_bytes(b""),
    "make a file": lambda: secret.with_name("new").touch(),
    "take a file away": lambda: secret.unlink(),
    "take a file in": lambda: os.rename(secret, own / "secret"),
    "link a file in": lambda: os.link(secret, own / "secret"),
    "make a program": lambda: os.chmod(own / "sessions.json", 0o700) or os.execv(own / "sessions.json", ["x"]),
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "start a process": forks,
    "end a process": lambda: os.kill(parent, signal.SIGTERM),
    "connect": lambda: connects(socket.SOCK_STREAM),
    "connect by its first bytes": connects_fast,
    "send datagrams": lambda: connects(socket.SOCK_DGRAM),
    "reach the machine's host": lambda: socket.socket(40, socket.SOCK_STREAM),
    "take another protocol": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
    "ask the kernel of the network": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "reach a socket file": lambda: socket.socket(socket.AF_UNIX).connect("/run/systemd/private"),
}
for do in must:
    do()
could = []
for name, do in must_not.items():
    try:
        do()
    except OSError:
        continue
    could.append(name)
print(json.dumps([stand.walls, stand.lacking, could]))
"""


def test_a_process_that_is_taken_over_can_serve_and_nothing_else(tmp_path: Path) -> None:
    own, secret = tmp_path / "console", tmp_path / "keys" / "minisign.key"
    own.mkdir()
    secret.parent.mkdir()
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-I", "-c", INSIDE, str(own), str(secret), str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["files", "calls"], None, []]
    assert secret.read_text() == "secret"


WITHOUT_LANDLOCK = """
from agent.web.serving import walls
walls.missing_walls = lambda: {"files": "the kernel has no Landlock"}
stand = walls.close_in(None)
print(stand.walls, stand.lacking)
"""


def test_a_kernel_without_landlock_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", WITHOUT_LANDLOCK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
    assert done.stdout == "['calls'] the kernel has no Landlock\n"


def test_every_thread_of_the_running_process_is_behind_them(plant: GatewayPlant) -> None:
    process = psutil.Process(plant.agent.child("agent.web.web_process").pid)
    for thread in process.threads():
        status = Path(f"/proc/{process.pid}/task/{thread.id}/status").read_text()
        told = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert (told["Seccomp"].strip(), told["NoNewPrivs"].strip()) == ("2", "1")
        assert int(told["CapEff"], 16) & ~KEPT == 0
    meta = json.loads(plant.agent.value("meta") or "")
    assert meta["web"] == {"walls": ["files", "calls"], "lacking": None}
