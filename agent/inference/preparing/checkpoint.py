"""Exports an untrusted checkpoint to an ONNX file, by a process in the sandbox."""

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
from agent.files import open_regular, stream_sha256
from agent.inference import sandbox
from agent.inference.backends.errors import one_line, plain_of_export, plain_of_memory
from agent.inference.preparing.export_process import ANSWER, CHECKPOINT, EXPORTED, SETTINGS, Answer, Export
from agent.inference.sandbox import Limits
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

_MODULE: Final = "agent.inference.preparing.export_process"
_LOG_FILE: Final = "log.txt"
_LOOK_S: Final = 0.02  # interval of checks, in which a disk may take tens of MB
_TELL_S: Final = 60.0
"""Interval of progress messages, because the waiting process kills a step that sends none."""
_TAIL: Final = 400
_BLOCK_BYTES: Final = 512  # of st_blocks, whatever the file system
_ANSWER_BYTES: Final = 1 << 16
_BYTES_A_FILE_BYTE: Final = 24  # the weights as float32 and in the graph, each twice during the trace
_MEMORY_BYTES: Final = 2 << 30  # mapped memory, which includes hardly used stacks and arenas
_DISK_BYTES: Final = 64 << 20
_CPU_S: Final = 1200
_WALL_S: Final = 3600.0  # long, because lines that infer go first
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
# because the sandbox allows no further thread
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1", "OPENBLAS_NUM_THREADS": "1"}
_ENTRY_BYTES: Final = 1 << 16  # charge for each file: an export writes ten, and checks of thousands would take long


def limits_of(size_bytes: int) -> Limits:
    """Return the limits for the export of a checkpoint of `size_bytes`."""
    memory_bytes = _MEMORY_BYTES + _BYTES_A_FILE_BYTE * size_bytes
    return Limits(memory_bytes, _CPU_S, _WALL_S, _DISK_BYTES + 8 * size_bytes)


def export(
    version: ModelVersion,
    folder: Path,
    tell: Callable[[str], None],
    *,
    is_trusted: bool,
    opener: Sequence[str] = (),
) -> Path:
    """Export the version's checkpoint into the empty `folder` and return the ONNX file. Blocks for about a minute.

    `opener` is the command of the export process; empty: `agent.inference.preparing.export_process`.

    Raises ModelError ("load_failed", "hash_mismatch") that names the failure, OutOfMemoryError and OSError.
    """
    size_bytes = _bring(version, folder / CHECKPOINT)
    (folder / SETTINGS).mkdir()
    limits = limits_of(size_bytes)
    asked = Export(str(folder), version.imgsz, os.getpid(), limits, is_trusted)
    command = opener or isolated.command(_MODULE)
    code = _run(version, command, msgspec.json.encode(asked), folder, limits, tell)
    answer = _answer(folder)
    if answer is None:
        raise _ended(version, code, folder)
    if answer.error is not None:
        words = answer.error.replace(str(folder / CHECKPOINT), version.path)
        if answer.is_out_of_memory:
            raise OutOfMemoryError(f"{version.reference}: {plain_of_memory(words)}")
        raise ModelError("load_failed", f"{version.reference}: {plain_of_export(words)}")
    exported = folder / EXPORTED
    if not _is_file(exported):
        raise ModelError("load_failed", f"{version.reference}: nothing was exported")
    # the kernel's own list, because the export process is not trusted
    tell(f"exported behind {', '.join(sandbox.standing_walls())}")
    return exported


def _bring(version: ModelVersion, target: Path) -> int:
    """Copy the checkpoint, hash the copied bytes, and return their number. Raises ModelError for another sha256."""
    with open_regular(Path(version.path)) as source, target.open("wb") as copy:
        found = stream_sha256(source, copy)
        size_bytes = copy.tell()
    if found != version.sha256.lower():
        raise ModelError("hash_mismatch", f"{version.path} changed while it was read")
    return size_bytes


def _run(  # noqa: PLR0913, PLR0917 - one export, spelt out
    version: ModelVersion,
    command: Sequence[str],
    request: bytes,
    folder: Path,
    limits: Limits,
    tell: Callable[[str], None],
) -> int:
    began_s = told_s = time.monotonic()
    deadline_s = began_s + limits.wall_s
    with (
        (folder / _LOG_FILE).open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,  # so that the process cannot type into the user's terminal
        ) as process,
    ):
        isolated.hand_over(process, request)
        assert process.stdin is not None
        process.stdin.close()
        try:
            while process.poll() is None:
                what = _excess(folder, limits, deadline_s)
                if what is not None:
                    raise ModelError("load_failed", f"{version.reference}: its export {what}, and was ended")
                if time.monotonic() > told_s + _TELL_S:
                    told_s = time.monotonic()
                    tell(f"exporting since {told_s - began_s:.0f} s")
                time.sleep(_LOOK_S)
        finally:
            process.kill()  # also after an exception, because leaving the block waits for the process without a limit
    return process.returncode


def _excess(folder: Path, limits: Limits, deadline_s: float) -> str | None:
    if time.monotonic() > deadline_s:
        return f"took more than {limits.wall_s:g} s"
    if _used_bytes(folder) > limits.disk_bytes:
        return f"wrote more than {limits.disk_bytes >> 20} MiB"
    return None


def _used_bytes(folder: Path) -> int:
    used_bytes = 0
    for place in (folder, folder / SETTINGS):  # the walls let no other folder be made
        with os.scandir(place) as entries:
            found = (entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES for entry in entries)
            used_bytes += sum(_ENTRY_BYTES + size_bytes for size_bytes in found)
    return used_bytes


def _environment(folder: Path) -> dict[str, str]:
    """Return the export's environment variables: none of the service's secrets, and no folder but its own."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = ("HOME", "TMPDIR", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME")
    return kept | dict.fromkeys(own, str(folder)) | {"MALLOC_ARENA_MAX": "2"} | _ONE_THREAD


def _answer(folder: Path) -> Answer | None:
    file = folder / ANSWER
    if not _is_file(file) or file.stat().st_size > _ANSWER_BYTES:
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Answer)
    except msgspec.DecodeError:
        return None


def _is_file(path: Path) -> bool:
    """Return True for a regular file that is no symbolic link."""
    return path.exists() and stat.S_ISREG(path.lstat().st_mode)


def _ended(version: ModelVersion, code: int, folder: Path) -> ModelError | OutOfMemoryError:
    """Return the error for an export process that ended without an answer."""
    if code == -signal.SIGXCPU:
        return ModelError("load_failed", f"{version.reference}: its export took more than its share of the processor")
    if code == -signal.SIGKILL:
        return OutOfMemoryError(f"{version.reference}: its export was killed; the device may have had no memory")
    with (folder / _LOG_FILE).open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
        tail = one_line(log.read().decode(errors="replace"))
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ModelError("load_failed", f"{version.reference}: its export ended with {how}: {plain_of_export(tail)}")
