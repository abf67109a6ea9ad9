"""Each wall by itself, tried from inside: a way out that was found once, or that other sandboxes left open."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from support import walled
from support.walled import LIMITS, Attack

import agent
from agent.inference.preparing import checkpoint
from agent.inference.preparing.export_process import SETTINGS
from agent.inference.sandbox import Limits
from agent.processes.walls import missing_walls, syscalls

pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"this kernel lacks {', '.join(missing_walls())}")

# The kernel refuses some of these without rights: that they are on no list is looked at as well.
FORBIDDEN = """
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp
    pidfd_open pidfd_send_signal pidfd_getfd kill tkill rt_sigqueueinfo rt_tgsigqueueinfo timer_create mq_notify
    fork vfork clone3 execve execveat unshare setns
    socket socketpair connect bind sendto sendmsg
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register io_setup io_submit
    memfd_create memfd_secret shmget shmat semget msgget mq_open
    add_key request_key keyctl
    setpriority sched_setscheduler sched_setparam sched_setattr sched_setaffinity ioprio_set
    migrate_pages move_pages mbind set_mempolicy mlock mlock2 mlockall
    setuid setgid setresuid setresgid setreuid setregid setgroups setfsuid setfsgid capset setpgid setsid
    mount umount2 pivot_root chroot fsopen open_tree move_mount swapon quotactl
    init_module finit_module kexec_load reboot syslog acct settimeofday clock_settime adjtimex sethostname
    name_to_handle_at open_by_handle_at fanotify_init inotify_init1 openat2
    mkdir mkdirat
    truncate fallocate unlink unlinkat rmdir rename renameat renameat2 link linkat symlink symlinkat mknod mknodat creat
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat removexattrat file_setattr
    splice tee vmsplice personality modify_ldt iopl ioperm seccomp landlock_restrict_self
""".split()  # noqa: SIM905 - lines of words are read more easily
INT_80 = """
import mmap  # the table of 32 bits, by its own instruction: getpid
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b814000000cd80c3'))
ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
NOT_THERE = {"clone3", "openat2", "unlink", "unlinkat", "rmdir"}  # refused by another word than "not permitted"


@pytest.fixture
def attack(tmp_path: Path) -> Attack:
    return partial(walled.attack, tmp_path, knows_calls=True)


def test_no_call_that_reaches_others_is_allowed(attack: Attack) -> None:
    """All in one pickle; those that it could make are named by what it says."""
    said = attack(
        f"could = []\nfor name in {FORBIDDEN!r}:\n"
        " try: call(name, 0, 0, 0, 0, 0, 0)\n"
        " except PermissionError: continue\n"
        " except OSError as error:\n"
        f"  if name in {NOT_THERE!r} and error.errno in (2, 38): continue\n"
        " could.append(name)\n"
        "raise ValueError(could)"
    )
    assert "ValueError: []" in said


def test_no_call_that_reaches_others_is_on_the_list() -> None:
    assert not set(FORBIDDEN) & set(syscalls.ALLOWED)


@pytest.mark.parametrize(
    "code",
    [
        "fcntl.fcntl(0, 8, parent)",  # F_SETOWN, and then
        "fcntl.fcntl(0, 10, 9)",  # F_SETSIG: any signal, for any process of this user
        "fcntl.fcntl(0, 15, b'\\1\\0\\0\\0' + parent.to_bytes(4, 'little'))",  # F_SETOWN_EX
        "fcntl.fcntl(0, fcntl.F_SETFL, 0o20000)",  # O_ASYNC
        "fcntl.fcntl(os.open('.', 0), 1026, 1)",  # F_NOTIFY
        "fcntl.fcntl(os.open('new', 66), 1024, 0)",  # F_SETLEASE
        "fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)",  # F_SETPIPE_SZ
        "fcntl.ioctl(0, termios.TIOCSTI, b'x')",  # type into a terminal
        "fcntl.ioctl(0, termios.TIOCLINUX, b'\\2')",
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)",
        "fcntl.ioctl(0, 0x5452, b'\\1\\0\\0\\0')",  # FIOASYNC
        "fcntl.ioctl(0, 0x8901, parent.to_bytes(4, 'little'))",  # FIOSETOWN
        "call('ioctl', 0, (1 << 32) | 0x5401, 0)",  # the kernel looks at half of it
        "call('prctl', 1, 0)",  # PR_SET_PDEATHSIG
        "call('prctl', 4, 1)",  # PR_SET_DUMPABLE
        "call('prctl', 0x59616d61, parent)",  # PR_SET_PTRACER
        "call('prctl', 22, 1)",  # PR_SET_SECCOMP
        "call('prctl', 47, 2, 0, 0, 0)",  # PR_CAP_AMBIENT
        "call('prlimit64', parent, 7, 0, 0)",
        "call('tgkill', parent, parent, 0)",
        "call('tgkill', parent, parent, 9)",
        "call('sched_setaffinity', parent, 8, b'\\1' + bytes(7))",
        "call('ioprio_set', 1, parent, 0x6000)",
        "call('setpriority', 0, parent, 19)",
        "call('clone', 0x50f00, 0, 0, 0, 0)",  # a thread
        "call('clone', 0x10000000 | 17, 0, 0, 0, 0)",  # CLONE_NEWUSER
        "call('openat', -100 % 2**64, b'.', 0o20200002, 0o600)",  # O_TMPFILE: it counts for no folder
        "call('openat', -100 % 2**64, b'model.pt', 0o1000)",  # truncates, and only reads
    ],
)
def test_a_call_that_is_needed_is_allowed_for_what_it_is_needed_for(attack: Attack, code: str) -> None:
    assert "PermissionError" in attack(f"import fcntl, termios\n{code}")


def test_it_starts_no_thread(attack: Attack) -> None:
    assert "can't start new thread" in attack("import threading; threading.Thread(target=print).start()")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other processors have one table")
@pytest.mark.parametrize(
    "code",
    [
        "call(0x40000000 | 39)",  # x32's own table
        "call(0x40000000 | 520)",
        INT_80,
    ],
)
def test_the_processors_other_tables_of_calls_end_it(attack: Attack, code: str) -> None:
    said = attack(code)
    assert "ended with SIGSYS" in said or ("mmap" in code and "ended with SIGSEGV" in said)


def test_files_without_a_name_count(attack: Attack) -> None:
    """Unlinked while they are open, they were on the disk and in no folder."""
    code = "import itertools, time\nkept = []\n"
    code += "for n in itertools.count():\n"
    code += " kept.append(open(str(n), 'wb')); kept[-1].write(bytes(1 << 20)); kept[-1].flush()\n"
    code += " try: os.unlink(str(n))\n except OSError: pass\n"
    code += " time.sleep(.02)"
    assert "wrote more than 8 MiB" in attack(code, Limits(256 << 20, 30, 30.0, 8 << 20))


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(20): os.mkdir('d' * 250); os.chdir('d' * 250)",  # longer than a path may be
        "for n in range(1500): os.mkdir('d'); os.chdir('d')",  # deeper than who looks can go
        "os.mkdir('hidden', 0o300); os.chdir('hidden')",  # which only root may list
        "call('mkdirat', -100 % 2**64, b'd', 0o700)",
    ],
)
def test_it_makes_no_folder_that_files_could_hide_in(attack: Attack, tmp_path: Path, code: str) -> None:
    """Files in it counted for nothing: 160 MB passed a limit of 8 MiB."""
    fill = "\nfor n in range(40): open(str(n), 'wb').write(bytes(4 << 20))"
    assert "PermissionError" in attack(code + fill)
    assert [path.name for path in (tmp_path / "inner").iterdir() if path.is_dir()] == [SETTINGS]


def test_a_look_that_fails_ends_the_process(attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was waited for without any limit then."""

    def fail(*_: object) -> str:
        raise RecursionError

    monkeypatch.setattr(checkpoint, "_excess", fail)
    with pytest.raises(RecursionError):
        attack("import time; time.sleep(20); open('stayed', 'w')")
    assert not (tmp_path / "inner" / "stayed").exists()


TERMINAL = "\x1b[6n\x1b]0;owned\x07\x9b6n\u202e"


@pytest.mark.parametrize(
    "code",
    [
        f"raise ValueError({TERMINAL!r})",
        f"import sys; sys.stderr.write({TERMINAL!r}); sys.stderr.flush(); os._exit(3)",
        f"import json; open('answer.json', 'w').write(json.dumps({{'error': {TERMINAL!r} * 99}})); os._exit(0)",
    ],
)
def test_it_says_nothing_that_a_terminal_would_act_on(attack: Attack, code: str) -> None:
    """It is shown to whoever prepares: a terminal that is asked (ESC [6n) answers as if somebody typed."""
    said = attack(code)
    assert said.isprintable()
    assert len(said) < 600


def test_it_does_not_say_which_walls_stood(attack: Attack) -> None:
    said: list[str] = []
    code = f"import json; open('model.onnx', 'w').write('x')\nwalls = [{TERMINAL!r} * 999]\n"
    code += "open('answer.json', 'w').write(json.dumps({'walls': walls})); os._exit(0)"
    with pytest.raises(pytest.fail.Exception):  # it is an answer: there is nothing to raise
        attack(code, tell=said.append)
    assert said == ["exported behind limits, files, calls"]


def test_files_in_the_librarys_folder_count(attack: Attack) -> None:
    code = f"import time; os.chdir({SETTINGS!r})\n"
    code += "for n in range(40): open(str(n), 'wb').write(bytes(1 << 20)); time.sleep(.02)"
    assert "wrote more than 8 MiB" in attack(code)


def test_empty_files_count(attack: Attack) -> None:
    code = "import itertools\nfor n in itertools.count():\n os.close(os.open(str(n), os.O_CREAT | os.O_WRONLY))"
    assert "wrote more than 8 MiB" in attack(code)


@pytest.mark.parametrize(
    "code",
    [
        "open(secret).read()",
        "open('/etc/passwd').read()",
        "open(f'/proc/{parent}/environ').read()",
        "open(f'/proc/{parent}/cmdline').read()",
        "open('/proc/self/root' + secret).read()",
        "os.listdir(os.path.dirname(secret))",
        "os.listdir('/')",
        "os.listdir('/proc')",
        "os.listdir('/root')",
        "open(project + '/pyproject.toml').read()",
        "os.open('/dev/tty', os.O_RDONLY)",
        "os.readlink(f'/proc/{parent}/cwd')",
        "os.listdir(f'/proc/{parent}/fd')",
        "open(f'/proc/{parent}/mem', 'rb').read(1)",
        "open(f'/proc/{parent}/maps').read()",
        "open('/proc/keys').read()",
        "os.listdir('/dev/shm')",
        "os.listdir('/run')",
        "os.listdir('/sys/fs/cgroup')",
        "open(f'/proc/self/fd/{os.open(secret, os.O_PATH)}').read()",
        "os.open('/dev/ptmx', os.O_RDWR)",
        "os.getxattr(secret, 'user.a')",
    ],
)
def test_it_reads_nothing_of_the_devices(attack: Attack, tmp_path: Path, code: str) -> None:
    """Credentials of the service, other models, other processes, the folder beside its package."""
    secret = tmp_path / "mqtt-password"
    secret.write_text("secret-word")
    secret.chmod(0o600)
    project = str(Path(agent.__file__).parents[1])
    assert Path(project, "pyproject.toml").exists()
    said = attack(f"secret = {str(secret)!r}; project = {project!r}\n{code}")
    assert "PermissionError" in said


FILES_ALONE = """
import os, shutil, sys
from pathlib import Path
from agent.processes.walls import landlock
folder, victim = Path(sys.argv[1]), Path(sys.argv[2])
(folder / "own").write_text("own")
shutil.copy("/bin/true", folder / "program")
landlock.restrict(folder, [Path("/lib"), Path("/lib64"), Path("/usr/lib")])
os.chdir(folder)
open("more", "w").write("x")
open("/dev/null", "w").write("x")
could = []
for name, do in {
    "read": lambda: victim.read_text(),
    "list": lambda: os.listdir(victim.parent),
    "write": lambda: victim.write_text(""),
    "append": lambda: open(victim, "a"),
    "new": lambda: victim.with_name("new").touch(),
    "folder": lambda: victim.with_name("newer").mkdir(),
    "unlink": lambda: os.unlink(victim),
    "unlink own": lambda: os.unlink("own"),
    "rmdir": lambda: os.rmdir(victim.with_name("empty")),
    "rename": lambda: os.rename(victim, "inside"),
    "rename own": lambda: os.rename("own", "other"),
    "link": lambda: os.link(victim, "inside"),
    "symlink": lambda: os.symlink(victim, "inside"),
    "own folder": lambda: os.mkdir("inside"),
    "pipe": lambda: os.mkfifo("pipe"),
    "socket": lambda: os.mknod("socket", 0o140600),
    "device": lambda: os.mknod("device", 0o20600, os.makedev(1, 3)),
    "block": lambda: os.mknod("block", 0o60600, os.makedev(1, 3)),
    "truncate": lambda: os.truncate(victim, 0),
    "run": lambda: os.execv("program", ["program"]),
}.items():
    try:
        do()
    except PermissionError:
        continue
    except OSError as error:
        if error.errno == 18: continue  # a link from elsewhere
    could.append(name)
print(could)
"""


def test_landlock_holds_without_the_other_walls(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "victim").write_text("whole")
    command = [sys.executable, "-I", "-c", FILES_ALONE, str(tmp_path / "folder"), str(tmp_path / "victim")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == "[]\n"
    assert (tmp_path / "victim").read_text() == "whole"


LIMITS_ALONE = """
import resource, sys
from pathlib import Path
from agent.inference import sandbox
sandbox.enter(Path(sys.argv[1]), sandbox.Limits(1 << 20, 10, 10.0, 1 << 20))
names = ("CPU", "FSIZE", "NOFILE", "CORE")
print([resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names])
"""


def test_the_limits_stand_and_cannot_be_raised(attack: Attack, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", LIMITS_ALONE, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == "[(10, 15), (1048576, 1048576), (256, 256), (0, 0)]\n"
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))"
    assert "Error" in attack(code, LIMITS)


def test_every_processor_knows_the_calls_that_are_allowed() -> None:
    """By a name that libseccomp knows: but for those that only one family of processors has."""
    old = {"open", "stat", "lstat", "access", "readlink", "getdents", "dup2", "pipe", "poll", "select", "time"}
    assert syscalls.unknown(syscalls.ALLOWED) <= old | {"arch_prctl", "getpgrp"}
