"""Comparison of a version's files with the catalog, byte for byte."""

import os
import time
from pathlib import Path
from typing import Final

from agent.files import open_regular, stream_sha256
from agent.messages.references import ModelVersion
from agent.models import file_faults

_SETTLED_NS: Final = 2_000_000_000  # a file changed so lately may change again within the clock of its file system
_LIMIT: Final = 256

_Seen = tuple[int, int, int, int, int]


class FileCheck:
    """Compares files to the catalog, and remembers for this process which ones it has seen to be right.

    What is remembered is a file's device, inode, size and times of change and of its inode's change: who writes it,
    replaces it or sets its times changes at least the last. Only for files that no runtime is going to read, as an
    artifact is there, whose own bytes are hashed. One thread at a time.
    """

    def __init__(self) -> None:
        self._right: Final[dict[tuple[Path, str], _Seen]] = {}

    def require_right(self, version: ModelVersion) -> int:
        """Hash all files of `version` and return their bytes. Raises ModelError ("file_missing", "hash_mismatch")."""
        return sum(self._hash(version, path, sha256) for path, sha256 in _files(version))

    def require_unchanged(self, version: ModelVersion) -> int:
        """Return the bytes of files that are as they were when they were right; hash those that are not."""
        return sum(
            size if (size := self._known_bytes(path, sha256)) is not None else self._hash(version, path, sha256)
            for path, sha256 in _files(version)
        )

    def _known_bytes(self, path: Path, sha256: str) -> int | None:
        try:
            info = path.stat()
        except OSError:
            return None
        return info.st_size if self._right.get((path, sha256)) == _seen(info) else None

    def _hash(self, version: ModelVersion, path: Path, sha256: str) -> int:
        try:
            with open_regular(path) as file:
                before = os.fstat(file.fileno())
                found = stream_sha256(file)
                file_bytes, after = file.tell(), os.fstat(file.fileno())
        except OSError as error:
            raise file_faults.missing(version, path, error).as_error(version) from error
        if found != sha256.lower():
            raise file_faults.altered(version, path, found, sha256).as_error(version)
        self._remember((path, sha256), before, after)
        return file_bytes

    def _remember(self, key: tuple[Path, str], before: os.stat_result, after: os.stat_result) -> None:
        self._right.pop(key, None)
        if _seen(before) == _seen(after) and time.time_ns() - after.st_ctime_ns > _SETTLED_NS:
            self._right[key] = _seen(after)
        while len(self._right) > _LIMIT:
            del self._right[next(iter(self._right))]


def _seen(info: os.stat_result) -> _Seen:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _files(version: ModelVersion) -> list[tuple[Path, str]]:
    """List a version's files with their sha256. Whether these are all is asked where a runtime is to read them."""
    path = Path(version.path)
    return [(path, version.sha256), *((path.parent / file.name, file.sha256) for file in version.files)]
