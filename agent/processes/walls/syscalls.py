"""A seccomp filter of system calls: it allows computing and writing one's own files, and refuses all other calls.

A server has a longer list. A process that uses a GPU has another filter, which refuses the network, other programs and
other processes, because the calls of a driver cannot be listed in advance.

The filter needs no privilege and no namespace, so it also works inside the service's systemd sandbox. libseccomp
translates names into the processor's numbers, and rules into the kernel's program. A call by another ABI of the
processor (x32, 32 bits) kills the process.
"""

import ctypes
import errno
import fcntl
import os
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from agent.processes.walls import kernel

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7  # enum scmp_compare
_TMPFILE: Final = 0o20000000  # __O_TMPFILE: a file that never had a name escapes the count of a folder's bytes

# No thread and no process is started, no signal sent, no folder made (who waits looks into one), no name of a file
# taken away or changed, nobody else's process, memory or priority touched. Files are opened by the rules below, and by
# Landlock's.
ALLOWED: Final = (
    *("read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek"),
    *("close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "sendfile", "copy_file_range", "ftruncate"),
    *("stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2"),
    *("readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "umask"),
    *("fsync", "fdatasync", "flock", "fadvise64", "poll", "ppoll", "select", "pselect6"),
    *("mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "mincore", "brk", "membarrier"),
    *("futex", "set_robust_list", "set_tid_address", "rseq", "arch_prctl", "restart_syscall"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times"),
    *("getpid", "getppid", "gettid", "getpgrp", "getpgid", "getsid", "getuid", "geteuid", "getgid", "getegid"),
    *("getresuid", "getresgid", "getgroups", "getrlimit", "getrusage", "getrandom", "uname", "sysinfo", "getcpu"),
    *("sched_yield", "sched_getaffinity", "getpriority", "capget", "exit", "exit_group"),
)
_REFUSED_AS: Final = {
    **dict.fromkeys(("clone3", "openat2"), errno.ENOSYS),  # libraries take the older call, whose arguments can be seen
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), errno.ENOENT),  # libraries go on, and leave their temporary files
}
_REFUSED_TO_SERVERS: Final = dict.fromkeys(("clone3", "openat2"), errno.ENOSYS)
_REFUSED_WITH_GPU: Final = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg"),
    *("recvfrom", "recvmsg", "recvmmsg", "shutdown", "setsockopt", "io_uring_setup", "io_uring_enter"),
    *("io_uring_register", "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("process_madvise", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kill", "tkill", "rt_sigqueueinfo"),
    *("rt_tgsigqueueinfo", "kcmp", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "fspick"),
    *("pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "add_key", "request_key"),
    *("keyctl", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "acct"),
    *("swapon", "swapoff", "quotactl", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime"),
    *("adjtimex", "clock_adjtime", "open_by_handle_at", "name_to_handle_at", "fanotify_init", "lookup_dcookie"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "capset", "personality"),
    *("mknod", "mknodat", "iopl", "ioperm", "msgget", "semget", "shmget", "mq_open", "migrate_pages", "move_pages"),
    # what Landlock does not see
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "truncate", "utime"),
    *("utimes", "utimensat", "futimesat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr"),
    *("lremovexattr", "fremovexattr", "removexattrat", "file_setattr", "setpriority", "sched_setscheduler"),
)
_SERVING: Final = (
    *("accept", "accept4", "bind", "listen", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt"),
    *("recvfrom", "recvmsg", "socketpair", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait"),
    *("epoll_pwait2", "eventfd", "eventfd2", "fchmod", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
)
"""Calls of a server beside those of `ALLOWED`; no `connect`, because it asks nobody. Landlock says which files."""
_STREAM, _KIND = 1, 0xF
"""SOCK_STREAM, and the bits of a socket's kind: others send without `connect`."""
_FAMILIES: Final = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6: not the virtual machine's host, nor what a kernel has besides."""
_PROTOCOLS: Final = (0, 6)
"""The family's own, and TCP: not those that are rarely used, and so rarely tried."""
_FAST_OPEN: Final = 0x20000000
"""MSG_FASTOPEN, which connects."""
_THREAD: Final = 0x10000  # CLONE_THREAD: without it a clone is a process
_TYPES_INTO_TERMINAL: Final = (termios.TIOCSTI, 0x541C)  # TIOCLINUX pastes
_FCNTL: Final = (  # descriptors and locks; not who is told of their input, nor by which signal
    *(fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL),
    *(fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW),
)
_IOCTL: Final = (termios.TCGETS, termios.FIOCLEX, termios.FIONCLEX)  # not TIOCSTI, which types into a terminal
_FIONBIO: Final = 0x5421
_PRCTL: Final = (15, 16)  # the thread's name: PR_SET_NAME, PR_GET_NAME
_WAYS_TO_OPEN: Final = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_TRUNC)
_OPENING: Final = os.O_ACCMODE | os.O_TRUNC | _TMPFILE  # before Landlock 3, who only reads could truncate


class _Comparison(ctypes.Structure):
    """libseccomp's struct scmp_arg_cmp: an argument equals `first`, or equals `second` after the mask `first`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Rule(NamedTuple):
    """A rule for the call `name`; with `argument`, only where that argument equals `value` after `mask`."""

    name: str
    argument: int | None = None
    value: int = 0
    mask: int | None = None
    also: tuple[tuple[int, int], ...] = ()
    """Further arguments, and what each equals."""

    def comparisons(self) -> list[_Comparison]:
        """Return the rule's condition in libseccomp's form."""
        if self.argument is None:
            return []
        further = [_Comparison(argument, _EQUAL, value, 0) for argument, value in self.also]
        if self.mask is None:
            return [_Comparison(self.argument, _EQUAL, self.value, 0), *further]
        return [_Comparison(self.argument, _MASKED_EQUAL, self.mask, self.value), *further]


def is_there() -> bool:
    """Return True where libseccomp is installed and the kernel supports seccomp filters."""
    try:
        kernel.seccomp()
    except OSError:
        return False
    return os.path.exists("/proc/sys/kernel/seccomp/actions_avail")  # noqa: PTH110 - asked before anything else


def restrict(*, for_gpu: bool = False, is_server: bool = False) -> None:
    """Install the filter for the rest of this process's life. Raises OSError.

    A server listens, has threads, and keeps a few files, but connects to nobody. The process must have one thread only,
    and must have dropped its capabilities.
    """
    library = kernel.seccomp()
    if for_gpu:
        with _filter(_ALLOW) as made:
            for rule in _rules_with_gpu():
                _add(made, _ERRNO | errno.EPERM, rule)
            _add(made, _ERRNO | errno.ENOSYS, _Rule("clone3"))
            _check(library.seccomp_load(made))
        return
    with _filter(_ERRNO | errno.EPERM) as made:
        for rule in (*_rules(os.getpid()), *(_rules_of_server() if is_server else ())):
            _add(made, _ALLOW, rule)
        for name, number in (_REFUSED_TO_SERVERS if is_server else _REFUSED_AS).items():
            _add(made, _ERRNO | number, _Rule(name))
        _check(library.seccomp_load(made))


def _rules_of_server() -> Iterator[_Rule]:
    yield from (_Rule(name) for name in _SERVING)
    for family in _FAMILIES:
        yield from (_Rule("socket", 1, _STREAM, _KIND, ((0, family), (2, protocol))) for protocol in _PROTOCOLS)
    yield _Rule("sendto", 3, 0, _FAST_OPEN)
    yield _Rule("sendmsg", 2, 0, _FAST_OPEN)
    yield _Rule("clone", 0, _THREAD, _THREAD)
    yield _Rule("fcntl", 1, fcntl.F_SETFL)
    yield _Rule("ioctl", 1, _FIONBIO)


def _rules(own: int) -> Iterator[_Rule]:
    yield from (_Rule(name) for name in ALLOWED)
    for name, at in {"open": 1, "openat": 2}.items():
        yield from (_Rule(name, at, way, _OPENING) for way in _WAYS_TO_OPEN)
    yield from (_Rule("fcntl", 1, command) for command in _FCNTL)
    yield from (_Rule("ioctl", 1, request) for request in _IOCTL)
    yield from (_Rule("prctl", 0, option) for option in _PRCTL)
    yield _Rule("prlimit64", 0, 0)  # its own limits, which it can only lower
    yield _Rule("tgkill", 0, own)  # abort()


def _rules_with_gpu() -> Iterator[_Rule]:
    """Yield rules for the calls that a process with a GPU is refused."""
    yield from (_Rule(name) for name in _REFUSED_WITH_GPU)
    yield _Rule("clone", 0, 0, _THREAD)
    yield from (_Rule("ioctl", 1, request) for request in _TYPES_INTO_TERMINAL)


@contextmanager
def _filter(otherwise: int) -> Iterator[ctypes.c_void_p]:
    library = kernel.seccomp()
    made = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(otherwise)))
    if made.value is None:
        raise OSError(errno.EINVAL, "libseccomp makes no filter for this processor")
    try:
        yield made
    finally:
        library.seccomp_release(made)


def _add(made: ctypes.c_void_p, action: int, rule: _Rule) -> None:
    number = kernel.number_of(rule.name)
    if number is None:  # unknown to this processor or to libseccomp, so it stays refused
        return
    comparisons = rule.comparisons()
    array = (_Comparison * len(comparisons))(*comparisons)
    count = ctypes.c_uint(len(comparisons))
    _check(kernel.seccomp().seccomp_rule_add_array(made, ctypes.c_uint32(action), ctypes.c_int(number), count, array))


def _check(answer: int) -> None:
    if answer < 0:
        raise OSError(-answer, os.strerror(-answer))


def unknown(names: Iterable[str]) -> set[str]:
    """Return the `names` of system calls that this processor or libseccomp lacks."""
    return {name for name in names if kernel.number_of(name) is None}
