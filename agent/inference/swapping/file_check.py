"""Compares the files of a model version to the sha256 of the catalog."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.files import open_regular, stream_sha256
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models import file_faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.trust.verifier import Verifier

SETTLED_NS: Final = 2_000_000_000
"""Age that a file's last change must have before its hash is remembered (ns).

Because a file may change twice within one tick of its file system's clock.
"""
_LIMIT: Final = 256

Seen = tuple[int, ...]
"""Device, inode, bytes, and times of the last write and change (ns) of a file, from stat(2)."""


class FileCheck:
    """Verifier of model files, which remembers files with the right sha256 by their stat(2) values.

    A file that is written, replaced or given other times has another ctime. Threading: one thread at a time.
    """

    def __init__(self, settled_ns: int = SETTLED_NS, open_verifier: "Callable[[], Verifier] | None" = None) -> None:
        """Store the arguments; `open_verifier` None: any file with the right sha256 may be loaded."""
        self._settled_ns: Final = settled_ns
        self._open_verifier: Final = open_verifier
        self._verifier: Verifier | None = None
        self._right: Final[dict[tuple[Path, str], Seen]] = {}
        self._last: Final[dict[tuple[Path, str], Seen]] = {}
        """Each file as it was at its last hash; filled only where signatures are asked for."""

    def require_right(self, version: ModelVersion) -> int:
        """Hash all files of `version`, and return their total size in bytes.

        Raises ModelError ("file_missing", "hash_mismatch"; "unsigned" and "revoked" where signatures are asked for).
        """
        self._require_listed(version)
        return sum(self._hash(version, path, sha256) for path, sha256 in _files(version))

    def require_unchanged(self, version: ModelVersion) -> int:
        """Verify the files of `version`, and return their total size in bytes.

        Files unchanged since an earlier verification are not hashed, so use it only for files that no runtime will
        read. Raises what `require_right` raises.
        """
        self._require_listed(version)
        return sum(
            size if (size := self._known_bytes(path, sha256)) is not None else self._hash(version, path, sha256)
            for path, sha256 in _files(version)
        )

    def recall(self, version: ModelVersion, seen: tuple[Seen, ...]) -> None:
        """Take files of `version` as verified that still have the values which `remembered` returned, maybe long ago.

        Does nothing where signatures are asked for, because other keys may be trusted now.
        """
        if self._open_verifier is None:
            for key, one in zip(_files(version), seen, strict=False):
                if key not in self._right:
                    self._note(self._right, key, one)

    def remembered(self, version: ModelVersion) -> tuple[Seen, ...]:
        """Return the values of all files of `version` as they were verified last; empty where one is not remembered."""
        found = [self._right.get(key) for key in _files(version)]
        known = tuple(one for one in found if one is not None)
        return known if len(known) == len(found) else ()

    def require_same(self, version: ModelVersion) -> None:
        """Verify that a runtime has read the files of `version` which `require_right` has hashed before.

        Where signatures are asked for, a file that was replaced and put back meanwhile is refused, too. Raises what
        `require_right` raises.
        """
        if self._open_verifier is None:
            self.require_unchanged(version)
            return
        self._require_listed(version)
        for path, sha256 in _files(version):
            try:
                seen = _seen(path.stat())
            except OSError as error:
                raise file_faults.missing(version, path, error).as_error(version) from error
            if self._last.get((path, sha256)) != seen:
                detail = f"{version.reference}: {path} was changed while it was loaded: ask for the model again"
                raise ModelError("hash_mismatch", detail)

    def _require_listed(self, version: ModelVersion) -> None:
        if self._open_verifier is None:
            return
        if self._verifier is None:
            self._verifier = self._open_verifier()  # at the first load, because its libraries take memory
        self._verifier.require_listed(version)

    def _known_bytes(self, path: Path, sha256: str) -> int | None:
        try:
            info = path.stat()
        except OSError:
            return None
        return info.st_size if self._right.get((path, sha256)) == _seen(info) else None

    def _hash(self, version: ModelVersion, path: Path, sha256: str) -> int:
        witness = None
        if self._verifier is not None:
            is_main = path == Path(version.path)
            witness = self._verifier.witness(version, path, self._verifier.signature_of(version, path, is_main=is_main))
        try:
            with open_regular(path) as file:
                before = os.fstat(file.fileno())
                found = stream_sha256(file, witness)
                file_bytes, after = file.tell(), os.fstat(file.fileno())
        except OSError as error:
            raise file_faults.missing(version, path, error).as_error(version) from error
        if found != sha256.lower():
            raise file_faults.altered(version, path, found, sha256).as_error(version)
        if witness is not None:
            witness.require()
            self._note(self._last, (path, sha256), _seen(after))
        self._remember((path, sha256), before, after)
        return file_bytes

    def _remember(self, key: tuple[Path, str], before: os.stat_result, after: os.stat_result) -> None:
        self._right.pop(key, None)
        if _seen(before) == _seen(after) and time.time_ns() - after.st_ctime_ns > self._settled_ns:
            self._note(self._right, key, _seen(after))

    @staticmethod
    def _note(notes: dict[tuple[Path, str], Seen], key: tuple[Path, str], seen: Seen) -> None:
        notes.pop(key, None)
        notes[key] = seen
        while len(notes) > _LIMIT:
            del notes[next(iter(notes))]


def _seen(info: os.stat_result) -> Seen:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _files(version: ModelVersion) -> list[tuple[Path, str]]:
    """Return the files of a version with their sha256, as the catalog lists them."""
    path = Path(version.path)
    return [(path, version.sha256), *((path.parent / file.name, file.sha256) for file in version.files)]
