"""The store of artifacts on disk: model files that a runtime compiled for this device, each under a key of its inputs.

A runtime may execute the content of an artifact. The store therefore opens only artifacts that this program wrote: in
a folder that is private to this user, and with the sha256 that was recorded at the build.
"""

import errno
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent.files import file_sha256, replace_file, sync_path
from agent.inference.artifacts.mapped_file import MappedFile
from agent.inference.artifacts.profile import Profile
from agent.inference.yolo.metadata import FileFacts
from agent.messages.references import ModelVersion
from agent.processes.package_version import version_of

_LOG: Final = logging.getLogger(__name__)
_FORMAT: Final = "4"  # raised when artifacts are made or read in another way
_FOLDER: Final = "prepared"
_RECORD: Final = "artifact.json"
_DRAFT: Final = ".draft-"
_DRAFT_LIVES_S: Final = 3600.0
_PRIVATE: Final = 0o077
_BACKENDS: Final = ("openvino", "onnxruntime", "tensorrt")


class Artifact(msgspec.Struct, frozen=True):
    """The record of one artifact."""

    file: str
    """Name of the artifact's file, which lies beside the record."""
    sha256: str
    bytes: int
    """Size of the file."""
    source: str
    """Reference of the version that the artifact was made from."""
    facts: FileFacts
    """Metadata of the source file."""
    imgsz: tuple[int, int]
    """Height and width of the input in pixels."""
    shapes: tuple[tuple[int, ...], ...]
    """Shapes of the source's outputs; -1 for a side that it leaves open."""
    profile: Profile = Profile()
    proof: str = ""
    """Hash of the checks that the artifact passed, from `proof_record`; empty: none yet."""
    verified: tuple[tuple[int, ...], ...] = ()
    """Values of stat(2) of each source file when all were verified last, from `file_check`; empty: not remembered."""


class Made(msgspec.Struct, frozen=True):
    """A new artifact file as a backend returns it; the fields are those of `Artifact`."""

    file: str
    facts: FileFacts
    imgsz: tuple[int, int]
    shapes: tuple[tuple[int, ...], ...]
    profile: Profile = Profile()


class Opened(NamedTuple):
    """An artifact's record with its verified file, mapped into memory."""

    artifact: Artifact
    mapped: MappedFile
    path: Path

    @classmethod
    def made(cls, folder: Path, made: Made) -> "Opened":
        """Map a new artifact in `folder`, before the store keeps it."""
        path = folder / made.file
        known = (made.facts, made.imgsz, made.shapes, made.profile)
        return cls(Artifact(made.file, "", path.stat().st_size, "", *known), MappedFile(path), path)

    def with_profile(self, profile: Profile) -> "Opened":
        """Return a copy with another profile."""
        return self._replace(artifact=msgspec.structs.replace(self.artifact, profile=profile))


class ArtifactStore:
    """The artifacts under `cache_dir`, for any thread and several processes; each is written whole or not at all."""

    def __init__(self, cache_dir: Path) -> None:
        self.folder: Final = cache_dir / _FOLDER

    def find(self, key: str | None) -> Artifact | None:
        """Return the record under `key`, without hashing its file; None without an artifact in a private folder."""
        if key is None:
            return None
        folder = self.folder / key
        try:
            is_trusted = _is_private(self.folder) and _is_private(folder)
        except OSError:
            return None
        return self.recorded(key) if is_trusted else None

    def recorded(self, key: str | None) -> Artifact | None:
        """Return the record under `key` from a folder of any owner: for reports only, never to open the file."""
        if key is None:
            return None
        folder = self.folder / key
        try:
            found = msgspec.json.decode((folder / _RECORD).read_bytes(), type=Artifact)
            size_bytes = self._file(key, found).stat().st_size
        except (OSError, msgspec.DecodeError):
            return None
        return found if size_bytes == found.bytes and Path(found.file).name == found.file else None

    def open(self, key: str) -> Opened | None:
        """Map an artifact, compare its sha256 to the record, and mark it as used.

        Returns None without an artifact, and for a damaged one, which is removed.
        """
        found = self.find(key)
        if found is None:
            return None
        try:
            mapped = MappedFile(self._file(key, found))
        except (OSError, ValueError):
            return None
        if mapped.sha256() != found.sha256:
            self.discard(key, "its bytes are not those that were written")
            return None
        self._used(key)
        return Opened(found, mapped, self._file(key, found))

    def profiled(self, key: str, profile: Profile) -> None:
        """Replace the runtime options in an artifact's record. Raises OSError."""
        self._rewrite(key, profile=profile)

    def proven(self, key: str, proof: str) -> None:
        """Replace the hash of passed checks in an artifact's record. Raises OSError."""
        self._rewrite(key, proof=proof)

    def verified(self, key: str, seen: tuple[tuple[int, ...], ...]) -> None:
        """Replace what stat(2) told of the source files in an artifact's record. Raises OSError."""
        self._rewrite(key, verified=seen)

    def discard(self, key: str, why: str) -> None:
        """Remove an unusable artifact, so that it is built again; `why` is for the log."""
        found = self.find(key)
        source = found.source if found else "unknown"
        _LOG.warning("event=artifact_removed artifact=%s source=%s detail=%r", key[:12], source, why)
        self._remove(self.folder / key)

    def add(self, key: str, source: str, max_bytes: int, make: Callable[[Path], Made]) -> Artifact:
        """Call `make` with a new folder and keep the artifact under `key`; the least recently used ones make room.

        All artifacts together take at most `max_bytes`. Raises OSError for a full or read-only disk, ENOSPC also for
        an artifact larger than `max_bytes`, and what `make` raises. Nothing remains on disk after an error.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._sweep()
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.folder))
        try:
            artifact = _record(draft, source, make(draft))
            self._make_room(artifact.bytes, max_bytes, key)
            self._remove(self.folder / key)
            draft.rename(self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return artifact

    def used_bytes(self) -> int:
        """Return the size of all artifacts on disk."""
        return sum(size_bytes for _, size_bytes, _ in self._kept())

    def _rewrite(self, key: str, **changes: object) -> None:
        found = self.find(key)
        if found is not None:
            record = msgspec.json.encode(msgspec.structs.replace(found, **changes))
            replace_file(self.folder / key / _RECORD, record, sync=False)

    def _make_room(self, needed_bytes: int, max_bytes: int, key: str) -> None:
        if needed_bytes > max_bytes:
            raise OSError(errno.ENOSPC, f"takes {needed_bytes} bytes, and all artifacts may take {max_bytes}")
        kept = sorted(entry for entry in self._kept() if entry[2].name != key)
        taken_bytes = sum(size_bytes for _, size_bytes, _ in kept)
        for _, size_bytes, folder in kept:
            if taken_bytes + needed_bytes <= max_bytes:
                return
            self._remove(folder)
            taken_bytes -= size_bytes

    def _kept(self) -> list[tuple[int, int, Path]]:
        """Return the time of last use (Unix, ns), the bytes and the folder of each artifact."""
        kept = []
        for folder in self.folder.glob("[!.]*"):
            with suppress(OSError):  # another process may remove it meanwhile
                size_bytes = sum(file.stat().st_size for file in folder.iterdir())
                kept.append((folder.stat().st_mtime_ns, size_bytes, folder))
        return kept

    def _used(self, key: str) -> None:
        try:
            os.utime(self.folder / key)
        except OSError:
            _LOG.debug("event=artifact_use_not_recorded artifact=%s", key[:12])

    def _remove(self, folder: Path) -> None:
        """Remove an artifact's folder atomically: it is renamed first, then deleted."""
        away = self.folder / f"{_DRAFT}{folder.name}-{time.monotonic_ns()}"
        try:
            folder.rename(away)
        except FileNotFoundError:
            return
        except OSError as error:
            _LOG.warning("event=artifact_not_removed artifact=%s detail=%r", folder.name[:12], str(error))
            return
        shutil.rmtree(away, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove the drafts that killed processes left."""
        for draft in self.folder.glob(f"{_DRAFT}*"):
            with suppress(OSError):
                if time.time() - draft.stat().st_mtime > _DRAFT_LIVES_S:
                    shutil.rmtree(draft, ignore_errors=True)

    def _file(self, key: str, artifact: Artifact) -> Path:
        return self.folder / key / artifact.file


def become_owner(folder: Path) -> None:
    """Switch a root process to the owner of `folder`, because the store opens an artifact only for its owner."""
    while not os.path.exists(folder):  # noqa: PTH110 - pathlib's raises for a folder closed to this user
        folder = folder.parent
    info = folder.stat()
    if os.geteuid() == 0 and info.st_uid != 0:
        os.setgroups([])
        os.setgid(info.st_gid)
        os.setuid(info.st_uid)


def key_of(  # noqa: PLR0913 - all that an artifact depends on
    version: ModelVersion,
    backend: str,
    compute: str,
    precision: str = "",
    *,
    is_graph: bool = False,
    device: str = "",
) -> str | None:
    """Return the key of a version's artifact, a hash of all that the artifact depends on.

    None where the version lacks the sha256 of a file. `is_graph`: the artifact is a checkpoint's exported graph, which
    is the same for every device. `device`: what identifies the GPU and its driver that an engine is built for; without
    it an artifact has a key for a CPU only.
    """
    is_known = version.sha256 and (version.files or not version.path.lower().endswith(".xml"))
    if backend not in _BACKENDS or not is_known:
        return None
    files = (part for file in version.files for part in (file.name, file.sha256.lower()))
    described = (str(version.imgsz), version.layout, repr(version.preprocess))
    source = (_FORMAT, version.sha256.lower(), *files, *described)
    if is_graph:
        return _digest(*source, "graph")
    if device:
        return _digest(*source, backend, _release(backend), device, precision)
    if compute not in {"auto", "cpu"}:
        return None
    return _digest(*source, backend, _release(backend), _processor(), precision)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _release(library: str) -> str:
    return version_of(library) or ""


@cache
def _processor() -> str:
    """Return the processor's name and instruction sets, because an artifact is compiled for them."""
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)} | {os.uname().machine}))


def _is_private(folder: Path) -> bool:
    """Return True for a folder, not a link, that only this user may access. Raises OSError."""
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & _PRIVATE


def _record(draft: Path, source: str, made: Made) -> Artifact:
    file = draft / made.file
    sync_path(file)
    sha256 = file_sha256(file)
    for left in draft.iterdir():
        if left != file:
            left.unlink()
    size_bytes = file.stat().st_size
    known = (made.facts, made.imgsz, made.shapes, made.profile)
    artifact = Artifact(made.file, sha256, size_bytes, source, *known)
    (draft / _RECORD).write_bytes(msgspec.json.encode(artifact))
    return artifact
