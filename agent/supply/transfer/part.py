"""An unfinished download: its bytes, beside a record of what they are the beginning of."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent.files import replace_file
from agent.processes.private_files import make_private
from agent.supply.wanted import Wanted

if TYPE_CHECKING:
    from typing_extensions import Self

_CHUNK_BYTES: Final = 1 << 20


class Record(msgspec.Struct, frozen=True):
    """Identity of the file of which a part holds the first bytes."""

    source: str
    """sha256 of the reference, because a reference may hold what nobody else shall read."""
    tag: str = ""
    """ETag or time of the source's file, for If-Range."""
    size: int | None = None
    """Size of the whole file in bytes; None: unknown."""
    name: str = ""
    """File name at the source."""


class Part:
    """The `.part` file of one wanted file, with its running hash; a context manager for one thread."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self.path: Final = folder / f"{wanted.sha256}.part"
        self._record_path: Final = folder / f"{wanted.sha256}.json"
        self._source: Final = _hex(f"{wanted.reference}\n{wanted.beside}")
        self.tag = ""
        self.size: int | None = None
        self.name = ""
        self.offset = 0
        self._digest = hashlib.sha256()
        self._descriptor = -1

    def __enter__(self) -> "Self":
        """Open the part, and hash what an earlier run has left of it; starts empty where that is of another source."""
        record = self._read()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        make_private(self.path)
        if record is None:
            os.ftruncate(self._descriptor, 0)
            return self
        self.tag, self.size, self.name = record.tag, record.size, record.name
        while chunk := os.read(self._descriptor, _CHUNK_BYTES):
            self._digest.update(chunk)
            self.offset += len(chunk)
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._descriptor)
        if not self.offset:
            self.delete()

    @property
    def sha256(self) -> str:
        """The sha256 of all bytes so far, in hex."""
        return self._digest.hexdigest()

    def begin(self, size: int | None, tag: str, name: str) -> None:
        """Record what the bytes are the beginning of. Raises OSError."""
        if (size, tag, name) != (self.size, self.tag, self.name) or not self._record_path.exists():
            record = Record(self._source, tag, size, name)
            replace_file(self._record_path, msgspec.json.encode(record), sync=False)
            make_private(self._record_path)
            self.size, self.tag, self.name = size, tag, name

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises OSError."""
        rest = memoryview(chunk)
        while rest:
            count = os.write(self._descriptor, rest)
            self._digest.update(rest[:count])
            self.offset += count
            rest = rest[count:]

    def clear(self) -> None:
        """Forget all bytes. Raises OSError."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._digest = hashlib.sha256()
        self.offset = 0
        self.tag, self.size = "", None

    def flush(self) -> None:
        """Write the bytes to the disk, and leave their pages to others. Raises OSError."""
        os.fdatasync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, self.offset, os.POSIX_FADV_DONTNEED)

    def delete(self) -> None:
        """Delete bytes and record."""
        for path in (self.path, self._record_path):
            with suppress(FileNotFoundError):
                path.unlink()

    def _read(self) -> Record | None:
        try:
            record = msgspec.json.decode(self._record_path.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None
        return record if record.source == self._source else None


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
