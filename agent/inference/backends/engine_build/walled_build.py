"""Starts the sandboxed process that builds an engine, and waits for it."""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent import isolated
from agent.inference.backends.engine_build.request import ANSWER_FILE, BUILT, PROGRESS, EngineAnswer, EngineRequest
from agent.inference.backends.errors import one_line, plain_of_memory
from agent.messages.errors import ModelError, OutOfMemoryError

_PACKAGE: Final = "agent.inference.backends.engine_build"
_LOG_FILE: Final = "log.txt"
_LOOK_S: Final = 0.1
_TELL_S: Final = 60.0
_TAIL: Final = 400
_LONGEST: Final = 200
_ANSWER_BYTES: Final = 1 << 16
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


def command() -> Sequence[str]:
    """Return the command of the sandboxed process."""
    return isolated.command(f"{_PACKAGE}.engine_process")


def build(reference: str, request: EngineRequest, tell: Callable[[str], None]) -> EngineAnswer:
    """Build the engine that `request` describes; takes minutes. `tell` is called with its progress.

    Raises ModelError("load_failed") with TensorRT's message, OutOfMemoryError and OSError.
    """
    folder = Path(request.folder)
    code = _run(reference, request, tell)
    answer = _answer(folder)
    if answer is None:
        raise _ended(reference, code, folder)
    if answer.error is not None:
        if answer.is_out_of_memory:
            raise OutOfMemoryError(f"{reference}: {plain_of_memory(answer.error)}")
        raise ModelError("load_failed", f"{reference}: no engine can be built: {one_line(answer.error)}")
    if not _is_file(folder / BUILT):
        raise ModelError("load_failed", f"{reference}: no engine was built")
    return answer


def _run(reference: str, request: EngineRequest, tell: Callable[[str], None]) -> int:
    folder = Path(request.folder)
    began_s = told_s = time.monotonic()
    last = ""
    with (
        (folder / _LOG_FILE).open("wb") as log,
        subprocess.Popen(
            command(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment(folder, request.gpu),
            start_new_session=True,  # so that the process cannot type into the user's terminal
        ) as process,
    ):
        isolated.hand_over(process, msgspec.json.encode(request))
        assert process.stdin is not None
        process.stdin.close()
        try:
            while process.poll() is None:
                if time.monotonic() > began_s + request.limits.wall_s:
                    what = f"took more than {request.limits.wall_s:g} s, and was ended"
                    raise ModelError("load_timeout", f"{reference}: its engine {what}")
                words = _progress(folder)
                if words != last or time.monotonic() > told_s + _TELL_S:
                    last, told_s = words, time.monotonic()
                    tell(f"building since {told_s - began_s:.0f} s: {words or 'it begins'}")
                time.sleep(_LOOK_S)
            if (words := _progress(folder)) != last:
                tell(f"built in {time.monotonic() - began_s:.0f} s: {words}")
        finally:
            process.kill()  # also after an exception, because leaving the block waits for the process without a limit
    return process.returncode


def _progress(folder: Path) -> str:
    path = folder / PROGRESS
    if not _is_file(path):
        return ""
    with path.open("rb") as file:
        return one_line(file.read(_LONGEST).decode(errors="replace"))


def environment(folder: Path, gpu: int) -> dict[str, str]:
    """Return the build's environment variables: none of the service's secrets, and no folder or GPU but its own."""
    visible = dict(enumerate(filter(None, os.environ.get(_VISIBLE, "").split(","))))
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = ("HOME", "TMPDIR", "XDG_CACHE_HOME")
    return (
        kept
        | dict.fromkeys(own, str(folder))
        | {
            "CUDA_CACHE_DISABLE": "1",
            _VISIBLE: visible.get(gpu, str(gpu)),  # because TensorRT builds for the first GPU that it sees
        }
    )


def _answer(folder: Path) -> EngineAnswer | None:
    file = folder / ANSWER_FILE
    if not _is_file(file) or file.stat().st_size > _ANSWER_BYTES:
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=EngineAnswer)
    except msgspec.DecodeError:
        return None


def _is_file(path: Path) -> bool:
    """Return True for a regular file that is no symbolic link."""
    return path.exists() and stat.S_ISREG(path.lstat().st_mode)


def _ended(reference: str, code: int, folder: Path) -> ModelError | OutOfMemoryError:
    """Return the error for a process that ended without an answer."""
    if code == -signal.SIGKILL:
        return OutOfMemoryError(f"{reference}: the build of its engine was killed; the device may have had no memory")
    with (folder / _LOG_FILE).open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
        tail = one_line(log.read().decode(errors="replace"))
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ModelError("load_failed", f"{reference}: the build of its engine ended with {how}: {tail}")
