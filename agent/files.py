"""Hashes, locks and atomic replacement of files. Imports no other module of `agent`."""

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL, EISDIR
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import BinaryIO, Final, Protocol

_CHUNK_BYTES: Final = 1 << 20
"""Bytes read and hashed at a time; Python's GIL is free while a chunk is hashed."""
_PAUSE_S: Final = 0.05
_HEX_DIGITS: Final = 64


def expanded(path: Path) -> Path:
    """Return a path with ~ replaced by a home folder. Raises ValueError where there is no such home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"a path without ~, since there is no home folder for {path.parts[0]} here") from None


def is_sha256(text: str) -> bool:
    """Return True for a sha256 in lower-case hexadecimal digits."""
    return len(text) == _HEX_DIGITS and not set(text) - set("0123456789abcdef")


def sha256_of(chunks: Iterable[bytes | memoryview]) -> str:
    """Return the sha256 of all chunks together, in hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


class ByteSink(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes, /) -> int:
        """Take the next bytes."""


def stream_sha256(stream: BinaryIO, copy: ByteSink | None = None) -> str:
    """Return the sha256 of a stream's unread rest, in hex; also write those bytes to `copy`. Raises OSError."""

    def chunks() -> Iterable[bytes]:
        while chunk := stream.read(_CHUNK_BYTES):
            if copy is not None:
                copy.write(chunk)
            yield chunk

    return sha256_of(chunks())


def file_sha256(path: Path) -> str:
    """Return the sha256 of a regular file, in hex. Raises OSError where it cannot be read or is no regular file."""
    with open_regular(path) as stream:
        return stream_sha256(stream)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for anything else, at once even for a named pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise OSError(EISDIR, "is a folder, not a file", str(path))
    raise OSError(EINVAL, "is no regular file", str(path))


def replace_file(path: Path, data: bytes, *, sync: bool, mode: int | None = None, is_shared: bool = False) -> None:
    """Replace a file's content atomically; with `sync`, return only once it is on the disk. Raises OSError.

    Only one process may do so at a time, because the temporary file's name is fixed, unless the file `is_shared` by
    processes of one machine. `mode` None: as the umask says.
    """
    draft = path.with_suffix(f".{os.getpid()}.new" if is_shared else ".new")
    try:
        with draft.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    if sync:
        sync_path(path.parent)


@contextmanager
def locked(path: Path, patience_s: float) -> Iterator[None]:
    """Run the block with an exclusive lock on `path`, created if missing. Raises BlockingIOError after `patience_s`."""
    limit_s = time.monotonic() + patience_s
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        while True:
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit_s:
                    raise
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
