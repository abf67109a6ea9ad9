"""The process that prepares one artifact: `python -m agent.inference.prepare`, a request on its standard input.

It runs where nobody else wants the cores, is the first to go where memory ends, and ends when its input does.
"""

import errno
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from agent.inference import backends
from agent.inference.artifacts import Artifacts
from agent.inference.priority import set_idle
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.models.prepare import Outcome, Request, Step
from agent.models.store import verify

_FULL_BYTES: Final = 1 << 20  # free on a disk that had no room for the next part of an artifact


def main() -> None:
    """Read a request, tell the steps and the outcome as lines of JSON, and end."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="level=%(levelname)s logger=%(name)s %(message)s")
    _step_back()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints is no answer
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    _become_owner(Path(request.cache_dir))
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _tell(out, prepare(request, lambda text: _tell(out, Step(text))))
    out.flush()
    os._exit(0)  # runtimes may take long to unload, or crash in it, when all is done


def prepare(request: Request, tell: Callable[[str], None]) -> Outcome:
    """Make the artifact of the request, unless it is there; `tell` is called with each step."""
    artifacts = Artifacts(Path(request.cache_dir))
    version = request.model
    key = backends.artifact_key(version, request.compute)
    if key is None:
        return Outcome("unneeded", "this model is served from its file as it is")
    tell("looking for an artifact that is whole")
    if artifacts.open(key):
        return Outcome("present", "an artifact of it is there")
    try:
        tell(f"checking {version.path}")
        verify(version)
        tell(f"compiling with {backends.backend_of(version, request.compute)}, and comparing the answers")
        make = partial(_make, version, request.compute)
        made = artifacts.add(key, version.reference, request.max_bytes, make)
    except ModelError as error:
        return Outcome("failed", str(error), error.reason)
    except OutOfMemoryError as error:
        return Outcome("failed", str(error))
    except OSError as error:
        return Outcome("failed", f"{error.filename or artifacts.folder}: {error.strerror or error}")
    return Outcome("prepared", f"{made.bytes / 1e6:.1f} MB")


def _make(version: ModelVersion, compute: str, folder: Path) -> backends.Made:
    """Make an artifact in `folder`. A disk that is full shows in what runtimes say of it: files that are cut."""
    try:
        return backends.make(version, compute, folder)
    except ModelError as error:
        if shutil.disk_usage(folder).free < _FULL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _step_back() -> None:
    """Take the lowest priority; what cannot be had is no failure."""
    with suppress(OSError):
        set_idle(0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _become_owner(folder: Path) -> None:
    """Run by root for a service of another user, become that user: an artifact is read by who owns it alone."""
    while not folder.exists():
        folder = folder.parent
    info = folder.stat()
    if os.geteuid() == 0 and info.st_uid != 0:
        os.setgroups([])
        os.setgid(info.st_gid)
        os.setuid(info.st_uid)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _tell(out: BinaryIO, told: Step | Outcome) -> None:
    out.write(msgspec.json.encode(told) + b"\n")
    out.flush()


if __name__ == "__main__":
    main()
