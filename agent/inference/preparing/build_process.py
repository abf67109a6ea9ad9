"""Process that prepares one artifact, as the request on its standard input says.

It uses CPU time that nobody else needs, is the OOM killer's first victim, and ends when its standard input closes.
"""

import errno
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec
from msgspec.structs import replace

from agent.inference import backends
from agent.inference.artifacts.artifact_store import Artifact, ArtifactStore, Made, Opened, become_owner
from agent.inference.artifacts.profile import Profile
from agent.inference.backends.detector import Detector
from agent.inference.backends.errors import ProcessorError
from agent.inference.preparing import checkpoint
from agent.inference.preparing.autotune import measure
from agent.inference.preparing.precision import make_best
from agent.messages.errors import MistakeError, ModelError, OutOfMemoryError, Reason
from agent.messages.references import ModelVersion
from agent.models.file_faults import require_sound, verify
from agent.models.preparation import Outcome, Request, Step
from agent.power_mode import power_mode
from agent.processes.parent_death import die_with_parent

_AWAITED_NICE: Final = 10
_FULL_BYTES: Final = 1 << 20  # less free space than this means that the disk was full


def main() -> None:
    """Read a request, write the steps and the outcome as lines of JSON, and exit."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="level=%(levelname)s logger=%(name)s %(message)s")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # because runtimes print to stdout, which carries the answers
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    _step_back(request)
    become_owner(Path(request.cache_dir))
    die_with_parent(os.getppid())  # in addition to the thread below, which a runtime may keep from the GIL
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _tell(out, prepare(request, lambda text: _tell(out, Step(text))))
    out.flush()
    os._exit(0)  # runtimes may take long to unload, or crash in it, when all is done


def prepare(request: Request, tell: Callable[[str], None]) -> Outcome:
    """Make the requested artifact, unless an undamaged one exists; `tell` is called with each step."""
    artifacts = ArtifactStore(Path(request.cache_dir))
    key = backends.artifact_key(request.model, request.compute)
    if key is None:
        return Outcome("unneeded", "this model is served from its file as it is")
    tell("looking for an artifact that is whole")
    try:
        found = artifacts.open(key)
        if found is not None:
            return _present(request, artifacts, key, found, tell)
        tell(f"checking {request.model.path}")
        verify(request.model)
        made = artifacts.add(key, request.model.reference, request.max_bytes, partial(_make, request, tell))
    except (MistakeError, OutOfMemoryError) as error:
        return Outcome("failed", str(error), _reason(error))
    except PermissionError as error:
        detail = f"{error.filename or artifacts.folder}: {_not_ours(artifacts.folder)}"
        return Outcome("failed", detail, is_of_disk=True)
    except OSError as error:
        detail = f"{error.filename or artifacts.folder}: {error.strerror or error}"
        return Outcome("failed", detail, is_of_disk=error.errno != errno.ENOMEM)
    return _told("prepared", made)


def _not_ours(folder: Path) -> str:
    owner = f"`sudo chown -R {os.geteuid()}:{os.getegid()} {folder}`"
    return f"this user (number {os.geteuid()}) may not write there: {owner}, where that user runs the agent"


def _reason(error: MistakeError | OutOfMemoryError) -> Reason | None:
    """Return the error's reason where a retry cannot help; None for a lack of memory."""
    if isinstance(error, OutOfMemoryError):
        return None
    return error.reason if isinstance(error, ModelError) else "load_failed"


def _present(
    request: Request, artifacts: ArtifactStore, key: str, found: Opened, tell: Callable[[str], None]
) -> Outcome:
    """Return the outcome for an existing artifact; measure it first if it has no figures for this power mode."""
    artifact = found.artifact
    if not artifact.profile.holds_in(power_mode()):
        tell("measuring")
        profile = _measured(request, request.model, found, tell)
        artifacts.profiled(key, profile)
        artifact = replace(artifact, profile=profile)
    return _told("present", artifact)


def _told(result: Literal["prepared", "present"], artifact: Artifact) -> Outcome:
    detail = f"{artifact.bytes / 1e6:.1f} MB, {artifact.profile}"
    return Outcome(result, detail, profile=msgspec.to_builtins(artifact.profile))


def _make(request: Request, tell: Callable[[str], None], folder: Path) -> Made:
    """Make the artifact in `folder`. Raises OSError (ENOSPC) where a runtime failed because the disk is full."""
    try:
        if not backends.is_checkpoint(request.model):
            made = _make_of_graph(request, request.model, tell, folder)
            verify(request.model)  # again, because runtimes read files by name: what was read is what was compared
            return made
        require_sound(request.model)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as inner:
            tell("exporting the checkpoint, shut in")
            graph = checkpoint.export(request.model, Path(inner), tell, is_trusted=request.model.unsafe)
            return _make_of_graph(request, replace(request.model, path=str(graph)), tell, folder)
    except ModelError as error:
        if shutil.disk_usage(folder).free < _FULL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _make_of_graph(request: Request, version: ModelVersion, tell: Callable[[str], None], folder: Path) -> Made:
    runtime = backends.backend_of(version, request.compute, is_prepared=True)
    tell(f"compiling with {runtime}, and comparing the answers")
    images = request.images or version.golden
    pictures = Path(images) if images else None
    made = make_best(version, request.compute, folder, pictures, tell, Path(request.cache_dir), request.precision)
    tell("measuring")
    return replace(made, profile=_measured(request, version, Opened.made(folder, made), tell))


def _measured(request: Request, version: ModelVersion, opened: Opened, tell: Callable[[str], None]) -> Profile:
    """Measure an artifact, and return its profile with times and memory.

    Where `auto` chose a GPU that does not start, the profile is returned without them.
    """

    def load(profile: Profile) -> Detector:
        return backends.restore(version, opened.with_profile(profile), request.compute, Path(request.cache_dir))

    try:
        return measure(load, opened.artifact.profile)
    except ProcessorError as error:
        if request.compute != "auto":
            raise
        tell(f"not measured: {error}")  # the worker's load falls back, and has the processor's artifact made
        return opened.artifact.profile


def _step_back(request: Request) -> None:
    """Lower this process's CPU priority and make it the OOM killer's first victim; a refusal is ignored."""
    with suppress(OSError):
        own = os.getpriority(os.PRIO_PROCESS, 0) if request.nice is None else request.nice
        # It stays when the parent ends the time at idle priority.
        os.setpriority(os.PRIO_PROCESS, 0, own + (_AWAITED_NICE if request.is_awaited else 0))
    with suppress(OSError):
        if not request.is_awaited or request.idle_s:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _tell(out: BinaryIO, told: Step | Outcome) -> None:
    out.write(msgspec.json.encode(told) + b"\n")
    out.flush()


if __name__ == "__main__":
    main()
