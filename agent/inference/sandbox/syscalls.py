"""A filter of system calls: no socket, no new process, no other process touched, no file's rights or times changed.

It needs no rights and no namespace, so it holds inside the service's own sandbox, where namespaces are refused.
"""

import ctypes
import errno
import os
import struct
from typing import Final

from agent.inference.sandbox import kernel

_SET_SECCOMP, _FILTER = 22, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they lie in struct seccomp_data, little-endian
_LOAD, _AND, _RETURN, _IF_EQUAL, _IF_GREATER_EQUAL, _IF_ANY = 0x20, 0x54, 0x06, 0x15, 0x35, 0x45
_CLONE_THREAD: Final = 0x00010000
_READ_AND_TRUNCATE: Final = (os.O_TRUNC | os.O_ACCMODE, os.O_TRUNC | os.O_RDONLY)
_X32: Final = 0x40000000  # x86-64's second table of calls, never used here

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def _table(text: str) -> dict[str, int]:
    """Read `name=number` words: linux/unistd.h, as each processor has it."""
    return {name: int(number) for name, _, number in (word.partition("=") for word in text.split())}


_SINCE_5: Final = _table(
    """
    clone3=435 fchmodat2=452 io_uring_setup=425 openat2=437 pidfd_getfd=438 pidfd_open=434
    pidfd_send_signal=424 setxattrat=463 removexattrat=466 file_setattr=469
    """
)
# Those that x86-64 has and newer processors never had come last.
_X86_64: Final = _table(
    """
    socket=41 execve=59 execveat=322 clone=56 openat=257 truncate=76 kill=62 tkill=200 tgkill=234
    rt_sigqueueinfo=129 rt_tgsigqueueinfo=297 ptrace=101 process_vm_readv=310 process_vm_writev=311
    prlimit64=302 setpriority=141 sched_setscheduler=144 sched_setattr=314 sched_setparam=142
    memfd_create=319 shmget=29 semget=64 msgget=68 mq_open=240 bpf=321 userfaultfd=323 add_key=248
    keyctl=250 request_key=249 fchmod=91 fchmodat=268 fchown=93 fchownat=260 utimensat=280 setxattr=188
    lsetxattr=189 fsetxattr=190 removexattr=197 lremovexattr=198 fremovexattr=199 fork=57 vfork=58
    open=2 chmod=90 chown=92 lchown=94 utime=132 utimes=235 futimesat=261
    """
)
_AARCH64: Final = _table(
    """
    socket=198 execve=221 execveat=281 clone=220 openat=56 truncate=45 kill=129 tkill=130 tgkill=131
    rt_sigqueueinfo=138 rt_tgsigqueueinfo=240 ptrace=117 process_vm_readv=270 process_vm_writev=271
    prlimit64=261 setpriority=140 sched_setscheduler=119 sched_setattr=274 sched_setparam=118
    memfd_create=279 shmget=194 semget=190 msgget=186 mq_open=180 bpf=280 userfaultfd=282 add_key=217
    keyctl=219 request_key=218 fchmod=52 fchmodat=53 fchown=55 fchownat=54 utimensat=88 setxattr=5
    lsetxattr=6 fsetxattr=7 removexattr=14 lremovexattr=15 fremovexattr=16
    """
)
NUMBERS: Final = {"x86_64": _X86_64 | _SINCE_5, "aarch64": _AARCH64 | _SINCE_5}
_ASK_ANOTHER_WAY: Final = ("clone3", "openat2")  # libraries then take the older call, whose arguments can be seen
_OWN_ONLY: Final = ("kill", "tgkill")
_FLAGS_AT: Final = {"open": 1, "openat": 2}

_Program = list[tuple[int, int, int, int]]


def restrict() -> None:
    """Have the kernel refuse those calls to this process, for good. Raises OSError, and KeyError for other processors.

    The caller must be its process' only thread, and must have given up its rights.
    """
    machine = os.uname().machine
    program = _program(_ARCHITECTURES[machine], NUMBERS[machine])
    steps = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(steps, len(steps))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    kernel.control(_SET_SECCOMP, _FILTER, ctypes.c_char_p(header))


def _program(architecture: int, numbers: dict[str, int]) -> _Program:
    special = {*_ASK_ANOTHER_WAY, *_OWN_ONLY, *_FLAGS_AT, "clone", "prlimit64"}
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    program: _Program = [(_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, _NUMBER), (_IF_GREATER_EQUAL, 0, 1, _X32), refuse]
    for name, number in numbers.items():
        if name not in special:
            program += [(_IF_EQUAL, 0, 1, number), refuse]
    program += _when(numbers["clone"], 0, [(_IF_ANY, 1, 0, _CLONE_THREAD), refuse])
    for name in _ASK_ANOTHER_WAY:
        program += [(_IF_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for name in _OWN_ONLY:
        program += _when(numbers[name], 0, [(_IF_EQUAL, 1, 0, os.getpid()), refuse])
    program += _when(numbers["prlimit64"], 0, [(_IF_EQUAL, 2, 0, 0), (_IF_EQUAL, 1, 0, os.getpid()), refuse])
    mask, wanted = _READ_AND_TRUNCATE
    for name, at in _FLAGS_AT.items():
        if name in numbers:
            program += _when(numbers[name], at, [(_AND, 0, 0, mask), (_IF_EQUAL, 0, 1, wanted), refuse])
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _when(number: int, argument: int, steps: _Program) -> _Program:
    """Run `steps`, with an argument loaded, for one call; they refuse it or fall through, and it is allowed."""
    look = (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)
    body = [look, *steps, (_RETURN, 0, 0, _ALLOW)]
    return [(_IF_EQUAL, 0, len(body), number), *body]
