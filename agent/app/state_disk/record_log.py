"""Append-only log of records, one a line with a checksum, so that a partly written end is detected."""

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Content:
    """The valid records of a log, in order."""

    records: list[bytes]
    size_bytes: int
    """Length up to the last good record."""
    is_damaged: bool
    """A damaged record is followed by valid ones, which a loss of power cannot cause."""


class RecordLog:
    """An open log. `append` and `close` are for one thread; another one may call `sync` meanwhile."""

    def __init__(self, path: Path, size_bytes: int = 0) -> None:
        """Open or create a log; new records go behind its first `size_bytes`, which are valid. Raises OSError."""
        self.path: Final = path
        self.size_bytes = size_bytes
        self._descriptor: Final = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def append(self, record: bytes) -> None:
        """Append a record without a line feed, whole or not at all; it outlives the process. Raises OSError."""
        line = b"%08x %b\n" % (zlib.crc32(record), record)
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self.size_bytes + written)
            # because a failed longer record may have left bytes behind this one
            if os.fstat(self._descriptor).st_size > self.size_bytes + written:
                os.ftruncate(self._descriptor, self.size_bytes + written)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            raise
        self.size_bytes += written

    def sync(self) -> None:
        """Flush all records to the disk (fdatasync). Raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._descriptor)


def read_log(path: Path) -> Content:
    """Read all valid records of a log. Raises OSError where it cannot be read."""
    records: list[bytes] = []
    size_bytes, is_damaged = 0, False
    for record, begin, end in _records(path.read_bytes()):
        if record is not None:
            is_damaged = is_damaged or begin != size_bytes
            records.append(record)
            size_bytes = end
    return Content(records, size_bytes, is_damaged)


def _records(data: bytes) -> Iterator[tuple[bytes | None, int, int]]:
    """Yield each line's record (None: damaged) with its start and end offset."""
    begin = 0
    for line in data.split(b"\n")[:-1]:
        end = begin + len(line) + 1
        checksum, _, record = line.partition(b" ")
        yield (record if checksum == b"%08x" % zlib.crc32(record) else None), begin, end
        begin = end
