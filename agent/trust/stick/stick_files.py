"""Opens files of a stick without following links or opening anything but regular files."""

import os
import stat
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from agent.messages.errors import ModelError, TransientError
from agent.models.model_files import is_inside

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_inside(folder: Path, name: str) -> BinaryIO | None:
    """Open a regular file in `folder`, by its relative name; None where there is none.

    Raises ModelError ("source_refused") for a name that leaves the folder, for links on the way and for anything but a
    regular file, and TransientError where it cannot be read.
    """
    if not is_inside(name):
        raise ModelError("source_refused", f"{name!r} is no name of a file inside {folder}")
    *folders, last = PurePosixPath(name).parts
    try:
        at = os.open(folder, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in folders:
                inner = os.open(part, _FOLDER, dir_fd=at)
                os.close(at)
                at = inner
            if not stat.S_ISREG(os.stat(last, dir_fd=at, follow_symlinks=False).st_mode):
                raise ModelError("source_refused", f"{folder / name} is no regular file (a link, a device, a pipe)")
            return os.fdopen(_regular(os.open(last, _FILE, dir_fd=at), folder / name), "rb")
        finally:
            os.close(at)
    except OSError as error:
        if error.errno == ENOENT:
            return None
        if error.errno in {ELOOP, ENOTDIR}:
            raise ModelError("source_refused", f"{folder / name} leads through a link or a file") from None
        raise TransientError(f"{folder / name}: {(error.strerror or str(error)).lower()}") from None


def _regular(descriptor: int, path: Path) -> int:
    """Return the descriptor if it is of a regular file, because the name may have changed since it was looked at."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ModelError("source_refused", f"{path} is no regular file (a link, a device, a pipe)")


def read_inside(folder: Path, name: str, most_bytes: int) -> bytes | None:
    """Read a file in `folder`, at most one byte more than `most_bytes`; None where there is none.

    Raises what `open_inside` raises.
    """
    file = open_inside(folder, name)
    if file is None:
        return None
    with file:
        try:
            return file.read(most_bytes + 1)
        except OSError as error:
            raise TransientError(f"{folder / name}: {(error.strerror or str(error)).lower()}") from None
