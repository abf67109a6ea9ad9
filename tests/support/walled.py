"""Pickles that run code, opened behind the walls by a process that opens anything."""

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from agent.files import file_sha256
from agent.inference.preparing import checkpoint
from agent.inference.sandbox import Limits
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

LIMITS = Limits(memory_bytes=256 << 20, cpu_s=30, wall_s=60.0, disk_bytes=8 << 20)
_TESTS = str(Path(__file__).parents[1])
_START = f"sys.path.insert(0, {_TESTS!r}); runpy.run_module('support.naive_export', run_name='__main__')"
OPENER = (sys.executable, "-I", "-c", f"import runpy, sys; {_START}")
Attack = Callable[..., str]
_KNOWING_CALLS = f"""
import ctypes, os
parent = {os.getpid()}
_names = ctypes.CDLL('libseccomp.so.2')
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
def call(name, *arguments):
    number = name if isinstance(name, int) else _names.seccomp_syscall_resolve_name(name.encode())
    if number < 0: raise PermissionError('unknown here')
    wide = [one if isinstance(one, bytes) else ctypes.c_ulong(one) for one in arguments]
    if _libc.syscall(ctypes.c_long(number), *wide) < 0:
        raise OSError(ctypes.get_errno(), name)
"""


@dataclass(frozen=True)
class Hostile:
    """Whoever unpickles this runs `code`."""

    code: str

    def __reduce__(self) -> tuple[object, tuple[str, dict[str, object]]]:
        return exec, (self.code, {})


def attack(
    folder: Path,
    code: str,
    limits: Limits = LIMITS,
    *,
    knows_calls: bool = False,
    tell: Callable[[str], None] = print,
) -> str:
    """Have a pickle that runs `code` exported under `limits`; return what was said of it, and by which error.

    `knows_calls`: the code has `call(name, *arguments)`, a system call, and `parent`, the process of the test.
    """
    path = folder / "hostile.pt"
    path.write_bytes(pickle.dumps(Hostile(_KNOWING_CALLS + code if knows_calls else code)))
    inner = folder / "inner"
    inner.mkdir()
    entry = ModelVersion("hostile", "n", "1", str(path), file_sha256(path))
    with (
        patch.object(checkpoint, "limits_of", lambda _: limits),
        pytest.raises((ModelError, OutOfMemoryError)) as ended,
    ):
        checkpoint.export(entry, inner, tell, is_trusted=False, opener=OPENER)
    return f"{ended.type.__name__} {ended.value}"
