"""From a checkpoint that nobody trusts to an ONNX file, by a process in the sandbox."""

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
from agent.inference import sandbox
from agent.inference.backends.errors import one_line
from agent.inference.preparing.export_process import ANSWER, CHECKPOINT, EXPORTED, SETTINGS, Answer, Export
from agent.inference.sandbox import Limits
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.models.store import file_sha256

_MODULE: Final = "agent.inference.preparing.export_process"
_LOG_FILE: Final = "log.txt"
_LOOK_S: Final = 0.02  # a disk takes tens of MB in it
_TAIL: Final = 400
_BLOCK_BYTES: Final = 512  # of st_blocks, whatever the file system
_ANSWER_BYTES: Final = 1 << 16
_BYTES_A_FILE_BYTE: Final = 24  # weights, twice over while they are traced, as float32 and in the graph
_MEMORY_BYTES: Final = 2 << 30  # threads' stacks and arenas are mapped, though hardly used
_DISK_BYTES: Final = 64 << 20
_CPU_S: Final = 1200
_WALL_S: Final = 3600.0  # behind lines that want the cores
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1", "OPENBLAS_NUM_THREADS": "1"}  # none can start
_ENTRY_BYTES: Final = 1 << 16  # what a name counts: an export writes ten, and a look at thousands would take long


def limits_of(size_bytes: int) -> Limits:
    """Say what the export of a checkpoint of so many bytes may use."""
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
    """Export the version's checkpoint into the empty `folder` and return the ONNX file. Blocks, for a minute or so.

    `opener` is the command that opens it, where it is not `agent.inference.preparing.export_process`.

    Raises ModelError ("load_failed", "hash_mismatch") saying what the process did, OutOfMemoryError and OSError.
    """
    size_bytes = _bring(version, folder / CHECKPOINT)
    (folder / SETTINGS).mkdir()
    limits = limits_of(size_bytes)
    asked = Export(str(folder), version.imgsz, os.getpid(), limits, is_trusted)
    code = _run(version, opener or isolated.command(_MODULE), msgspec.json.encode(asked), folder, limits)
    answer = _answer(folder)
    if answer is None:
        raise _ended(version, code, folder)
    if answer.error is not None:
        kind = f"{version.reference}: {one_line(answer.error)}"
        raise OutOfMemoryError(kind) if answer.is_out_of_memory else ModelError("load_failed", kind)
    exported = folder / EXPORTED
    if not _is_file(exported):
        raise ModelError("load_failed", f"{version.reference}: nothing was exported")
    tell(f"exported behind {', '.join(sandbox.standing_walls())}")  # not as it says itself
    return exported


def _bring(version: ModelVersion, target: Path) -> int:
    """Copy the checkpoint, and compare the copy: what is opened is what was compared."""
    size_bytes = 0
    with Path(version.path).open("rb") as source, target.open("wb") as copy:
        while chunk := source.read(1 << 20):
            size_bytes += copy.write(chunk)
    if file_sha256(target) != version.sha256.lower():
        raise ModelError("hash_mismatch", f"{version.path} changed while it was read")
    return size_bytes


def _run(version: ModelVersion, command: Sequence[str], request: bytes, folder: Path, limits: Limits) -> int:
    deadline_s = time.monotonic() + limits.wall_s
    with (
        (folder / _LOG_FILE).open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,  # without the terminal that somebody may sit at
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(request)
        process.stdin.close()
        try:
            while process.poll() is None:
                what = _excess(folder, limits, deadline_s)
                if what is not None:
                    raise ModelError("load_failed", f"{version.reference}: its export {what}, and was ended")
                time.sleep(_LOOK_S)
        finally:
            process.kill()  # whatever was raised: it would be waited for without a limit
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
    """Name what the process may know: no secret of the service's, no folder but its own."""
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
    """Say whether a file is there, and no link to another."""
    return path.exists() and stat.S_ISREG(path.lstat().st_mode)


def _ended(version: ModelVersion, code: int, folder: Path) -> ModelError | OutOfMemoryError:
    """Say why a process ended that gave no answer."""
    if code == -signal.SIGXCPU:
        return ModelError("load_failed", f"{version.reference}: its export took more than its share of the processor")
    if code == -signal.SIGKILL:
        return OutOfMemoryError(f"{version.reference}: its export was killed; the device may have had no memory")
    with (folder / _LOG_FILE).open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
        tail = one_line(log.read().decode(errors="replace"))
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ModelError("load_failed", f"{version.reference}: its export ended with {how}: {tail}")
