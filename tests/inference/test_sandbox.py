"""Files that run code when they are read: none gets out of its folder, none stays, and each ends with a word."""

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from support import walled
from support.walled import OPENER, Attack, Hostile

from agent.files import file_sha256
from agent.inference.preparing import checkpoint
from agent.inference.sandbox import Limits
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.processes.walls import missing_walls

VersionOf = Callable[..., ModelVersion]
DEADLINE_S = 60.0
pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"this kernel lacks {', '.join(missing_walls())}")


@pytest.fixture
def attack(tmp_path: Path) -> Attack:
    """Take code, and limits; see `support.walled.attack`."""
    return partial(walled.attack, tmp_path)


def test_it_reaches_nobody_by_tcp(attack: Attack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        said = attack(f"import socket; socket.create_connection(('127.0.0.1', {port}))")
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "PermissionError" in said


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET"])
def test_it_has_no_socket_of_any_kind(attack: Attack, family: str) -> None:
    said = attack(f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM)")
    assert "PermissionError" in said


@pytest.mark.parametrize(
    "code",
    [
        "open(victim, 'w')",
        "open(victim, 'a').write('x')",
        "open(victim + '-new', 'w')",
        "os.open(victim, os.O_RDONLY | os.O_TRUNC)",
        "os.truncate(victim, 0)",
        "os.rename('inside-1', 'inside-2')",
        "os.open('.', os.O_TMPFILE | os.O_RDWR)",
        "os.unlink(victim)",
        "os.rename(victim, victim + '-new')",
        "os.rename(victim, 'inside')",
        "os.link(victim, 'inside')",
        "os.symlink(victim, 'inside')",
        "os.mkdir(victim + '-new')",
        "os.chmod(victim, 0)",
        "os.utime(victim, (1, 1))",
        "os.setxattr(victim, 'user.a', b'x')",
    ],
)
def test_it_changes_nothing_beside_its_folder(attack: Attack, tmp_path: Path, code: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    before = victim.stat()
    said = attack(f"import os; victim = {str(victim)!r}; {code}")
    assert "Error" in said
    assert victim.read_text() == "whole"
    after = victim.stat()
    assert (before.st_mode, before.st_mtime_ns, before.st_nlink) == (after.st_mode, after.st_mtime_ns, after.st_nlink)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.pt", "inner", "victim"]


@pytest.mark.parametrize(
    "code",
    [
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 9)",
        "os.kill(os.getppid(), 0)",
        "os.memfd_create('more')",
        "open('/proc/self/oom_score_adj', 'w').write('-1000')",
    ],
)
def test_it_starts_nothing_and_touches_nobody(attack: Attack, code: str) -> None:
    assert "PermissionError" in attack(f"import os, subprocess; {code}")


def test_it_cannot_take_the_memory(attack: Attack) -> None:
    said = attack("taken = []\nwhile True: taken.append(bytearray(16 << 20))")
    assert said.startswith("OutOfMemoryError")


def test_it_cannot_stay(attack: Attack) -> None:
    said = attack("import time; time.sleep(3600)", Limits(256 << 20, 30, 1.0, 8 << 20))
    assert "took more than 1 s" in said


def test_it_cannot_keep_a_core(attack: Attack) -> None:
    said = attack("while True: pass", Limits(256 << 20, 1, 60.0, 8 << 20))
    assert "more than its share of the processor" in said


def test_it_cannot_fill_the_disk_with_many_files(attack: Attack) -> None:
    code = "import itertools, time\n"
    code += "for n in itertools.count():\n open(str(n), 'wb').write(bytes(1 << 20)); time.sleep(.02)"
    assert "wrote more than 8 MiB" in attack(code)


def test_it_cannot_fill_the_disk_with_one_file(attack: Attack) -> None:
    said = attack("open('one', 'wb').write(bytes(9 << 20))")
    assert "File too large" in said or "wrote more than 8 MiB" in said  # by the kernel, or who looks on


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(0)", "ended with exit code 0"),
        ("import os; os.abort()", "ended with SIGABRT"),
        ("import os; open('answer.json', 'w').write('{'); os._exit(0)", "ended with exit code 0"),
        ("import os; open('answer.json', 'w').write('{\"walls\":[]}'); os._exit(0)", "nothing was exported"),
        ("import os; open('answer.json', 'w').write('x' * 100000); os._exit(0)", "ended with exit code 0"),
    ],
)
def test_whatever_it_answers_is_only_a_word(attack: Attack, code: str, said: str) -> None:
    assert said in attack(code)


def test_it_knows_no_secret_of_the_environment(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANGEOVER_MQTT__PASSWORD", "secret-word")
    said = attack("import os; raise ValueError(sorted(os.environ))")
    assert "PATH" in said
    assert "CHANGEOVER" not in said


ORPHAN = f"""
import sys
from pathlib import Path
from agent.inference.preparing import checkpoint
from agent.messages.references import ModelVersion
entry = ModelVersion("m", "n", "1", sys.argv[1], sys.argv[2])
checkpoint.export(entry, Path(sys.argv[3]), print, is_trusted=False, opener={OPENER!r})
"""
STAY = "import ctypes, time; ctypes.CDLL(None).prctl(1, 0); open('here', 'w'); time.sleep(3600)"


@pytest.fixture
def shut_in(tmp_path: Path) -> Iterator["tuple[subprocess.Popen[bytes], psutil.Process]"]:
    """Start who waits for an export, and give it with the process that is behind the walls and stays there."""
    path = tmp_path / "hostile.pt"
    path.write_bytes(pickle.dumps(Hostile(STAY)))
    (tmp_path / "inner").mkdir()
    arguments = [str(path), file_sha256(path), str(tmp_path / "inner")]
    with subprocess.Popen([sys.executable, "-c", ORPHAN, *arguments]) as waiting:
        wait_until((tmp_path / "inner" / "here").exists)
        (hostile,) = psutil.Process(waiting.pid).children()
        yield waiting, hostile
        waiting.kill()


def test_it_ends_with_who_waits_for_it(shut_in: "tuple[subprocess.Popen[bytes], psutil.Process]") -> None:
    """Also where it asked the kernel not to be told (PR_SET_PDEATHSIG)."""
    waiting, hostile = shut_in
    waiting.kill()
    wait_until(lambda: not hostile.is_running() or hostile.status() == psutil.STATUS_ZOMBIE)


def test_it_holds_no_right_no_terminal_and_one_thread(
    shut_in: "tuple[subprocess.Popen[bytes], psutil.Process]",
) -> None:
    _, hostile = shut_in
    lines = Path(f"/proc/{hostile.pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Threads"]) == ("1", "2", "1")
    assert os.getsid(hostile.pid) == hostile.pid
    assert hostile.terminal() is None


def wait_until(is_there: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_there():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.01)


WITHOUT_LANDLOCK = """
import sys
from pathlib import Path
from agent.inference import sandbox
sandbox.landlock.version = lambda: 0
limits = sandbox.Limits(1 << 30, 10, 10.0, 1 << 20)
try:
    sandbox.enter(Path(sys.argv[1]), limits)
except sandbox.IsolationError as error:
    print(error)
print(sandbox.enter(Path(sys.argv[1]), limits, is_trusted=True))
"""


def test_a_kernel_that_cannot_hold_a_wall_is_refused_unless_the_file_is_trusted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LANDLOCK, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert "no Landlock" in said[0]
    assert said[1] == "('limits', 'calls')"


def test_a_file_that_changes_while_it_is_read_is_not_opened(version: VersionOf, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "model.pt").write_bytes(b"another")
    with pytest.raises(ModelError, match="changed while it was read") as refused:
        checkpoint.export(version(tmp_path / "model.pt", sha256="00"), tmp_path / "inner", print, is_trusted=False)
    assert refused.value.reason == "hash_mismatch"
