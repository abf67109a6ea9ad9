"""Fetches the models of a job into the store: each file downloaded, the model verified, then entered as one folder."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from agent.files import file_sha256, locked, replace_file, sync_path
from agent.messages.errors import ModelError
from agent.messages.references import ModelFile, ModelVersion
from agent.messages.short_lived.supply import SupplySetup
from agent.models.catalog import Catalog
from agent.models.catalog_entry import BLOBS, SUFFIXES, folder_name
from agent.models.keeping.leftovers import DRAFT, PARTS, sweep
from agent.models.keeping.room import NoRoomError, Room, collector
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.models.store import Store, make_folder
from agent.processes.private_files import make_private
from agent.supply.bounds.job import Job
from agent.supply.errors import SourceError
from agent.supply.sources import resolve
from agent.supply.sources.hosts import Hosts
from agent.supply.sources.web import Web
from agent.supply.transfer.download import FULL, Download
from agent.supply.transfer.opened import Opened, opened
from agent.supply.transfer.pace import Pace
from agent.supply.transfer.part import Part
from agent.supply.transfer.pump import bounded
from agent.supply.wanted import Entry, Wanted
from agent.trust.index_state import read_index_state

_PATIENCE_S: Final = 30.0
_MOST_SIGNATURE_BYTES: Final = 64 << 10
_DAMAGED: Final = ("hash_mismatch", "file_missing")

Read = Callable[[str, int], bytes | None]
"""Reads a file of an index by its name, at most so many bytes; None where there is none."""


class Indexed(Protocol):
    """A model of a signed index."""

    def entry_at(self, place: str) -> bytes:
        """Return the JSON of its entry, with its file under `place`, the URL of the index."""


class Verifier(Protocol):
    """Decides which models this device trusts."""

    @property
    def is_hashing(self) -> bool:
        """True where `verify_file` also compares each file's sha256, and raises ModelError ("hash_mismatch")."""

    def accept_index(self, read: Read) -> Sequence[Indexed]:
        """Return the models of the index that `read` serves. Raises ModelError where it is not trusted."""

    def require_listed(self, version: ModelVersion) -> None:
        """Raise ModelError where an index has revoked a version, or lacks it."""

    def verify_file(self, version: ModelVersion, path: Path) -> None:
        """Raise ModelError unless the file at `path`, and those beside it, are trusted as `version`."""


class Fetcher:
    """Fetches into the store of `setup`; one job at a time, held by a lock against other processes."""

    def __init__(self, setup: SupplySetup, verifier: Verifier, pace: Pace | None = None) -> None:
        self._store_dir: Final = Path(setup.store_dir).absolute()
        self._setup: Final = setup
        self._verifier: Final = verifier
        self._pace: Final = pace or Pace()
        self._store: Final = Store(Path(setup.catalog_file), self._store_dir)
        collect = collector(self._store, Path(setup.state_dir))
        self._room: Final = Room(self._store_dir, setup.max_bytes, setup.min_free_bytes, collect)
        rate_bytes_s = setup.max_kbps * 1000 / 8
        self._web: Final = Web(Hosts(setup.hosts), stall_s=self._pace.stall_s, rate_bytes_s=rate_bytes_s)

    def fetch(self, entries: Sequence[bytes], index: str, job: Job) -> tuple[bytes, ...]:
        """Return the JSON of each model, whose `file` is now the path in the store; of an index, all of its models.

        With neither, the configured index is read, so that what it has revoked is known.
        Raises SourceError or NoRoomError where the same job may succeed later, and ModelError where it cannot.
        """
        try:
            with self._alone(), self._web:
                sweep(self._store_dir, self._parts)
                if index:
                    entries = [model.entry_at(index) for model in self._accept(index)]
                elif entries and self._setup.index:
                    self._look_at_index()
                elif self._setup.index:
                    self._accept(self._setup.index)
                models = [Entry.parse(entry) for entry in entries]
                return tuple(json.dumps(self._fetch(model, job)).encode() for model in models)
        except OSError as error:
            words = f"{error.filename or self._store_dir}: {(error.strerror or str(error)).lower()}"
            if error.errno in FULL:
                raise NoRoomError(words) from None
            raise ModelError("load_failed", f"{words}; can the agent's user write there?") from None

    def _look_at_index(self) -> None:
        """Take the configured index, for what it lists and revokes; where it cannot be reached, the kept one counts."""
        try:
            self._accept(self._setup.index)
        except SourceError:
            if read_index_state(Path(self._setup.state_dir)) is None:
                raise

    @property
    def _parts(self) -> Path:
        return self._store_dir / PARTS

    @contextmanager
    def _alone(self) -> Iterator[None]:
        make_folder(self._store_dir)
        self._parts.mkdir(mode=0o700, exist_ok=True)
        make_private(self._parts)
        lock = self._parts / "lock"
        try:
            with locked(lock, _PATIENCE_S):
                make_private(lock)
                yield
        except BlockingIOError:
            raise SourceError("timeout", f"another fetch holds {lock}: try again when it has ended") from None

    def _fetch(self, entry: Entry, job: Job) -> dict[str, Any]:
        self._verifier.require_listed(entry.version_at(self._store_dir / "model.onnx"))
        found = self._held(entry, job)
        if found is None:
            job.begin("downloading")
            names = [self._download(wanted, job) for wanted in entry.wanted()]
            job.begin("verifying")
            found = self._keep(entry, names[0])
        raw = {key: value for key, value in entry.raw.items() if key not in {"signature", "files"}}
        files = {file.name: file.sha256 for file in entry.kept(found.suffix)[1:]}
        return raw | {"file": str(found)} | ({"files": files} if files else {})

    def _held(self, entry: Entry, job: Job) -> Path | None:
        """Return the model's file where the store has all of it, compared and trusted; else None."""
        for suffix in SUFFIXES:
            files = entry.kept(suffix)
            folder = self._store_dir / BLOBS / folder_name(files)
            found = folder / files[0].name
            if not found.is_file():
                continue
            job.begin("verifying")
            if not self._verifier.is_hashing and not _holds(folder, files):
                continue
            try:
                self._trust_held(entry, found, files)
            except ModelError as error:
                if error.reason in _DAMAGED:
                    continue
                raise
            with suppress(PermissionError):  # an administrator has added it
                os.utime(folder)
            return found
        return None

    def _trust_held(self, entry: Entry, found: Path, files: Sequence[ModelFile]) -> None:
        """Verify what the store holds; with newer signatures where the kept ones are no longer trusted."""
        folder, version = found.parent, entry.version_at(found)
        _sign(folder, files, self._signatures(entry, folder, files))
        try:
            self._verifier.verify_file(version, found)
        except ModelError as error:
            if error.reason != "unsigned" or not self._setup.trusted_keys or self._is_of_others(version, folder):
                raise
            self._renew(entry, found, files)

    def _is_of_others(self, version: ModelVersion, folder: Path) -> bool:
        """Return True where another model of the catalog needs the signatures in `folder` as they are."""
        catalog = Path(self._setup.catalog_file)
        known = Catalog.read(catalog, self._store_dir).versions if catalog.exists() else ()
        return any(Path(one.path).parent == folder and one.reference != version.reference for one in known)

    def _renew(self, entry: Entry, found: Path, files: Sequence[ModelFile]) -> None:
        """Take the source's signatures, verified before those that are there are replaced."""
        signatures = self._signatures(entry, None, files)
        draft = self._store_dir / f"{DRAFT}{entry.model.sha256}"
        try:
            for file in files:
                (draft / file.name).parent.mkdir(parents=True, exist_ok=True)
                os.link(found.parent / file.name, draft / file.name)
            _sign(draft, files, signatures)
            self._verifier.verify_file(entry.version_at(draft / found.name), draft / found.name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        _sign(found.parent, files, signatures)

    def _download(self, wanted: Wanted, job: Job) -> str:
        """Download one file into its part; return its name at the source."""

        @contextmanager
        def source(offset: int, tag: str) -> Iterator[Opened]:
            with opened(resolve(wanted, self._web), self._web, offset, tag) as found:
                yield found

        with Part(self._parts, wanted) as part:
            Download(wanted, part, source, room=self._room, pace=self._pace, job=job).run()
            return part.name

    def _keep(self, entry: Entry, name: str) -> Path:
        """Move the parts of a model into its folder of the store, once it is trusted. Raises ModelError, OSError."""
        suffix = PurePosixPath(name).suffix.lower()
        suffix = suffix if suffix in SUFFIXES else SUFFIXES[0]
        files = entry.kept(suffix)
        folder = self._store_dir / BLOBS / folder_name(files)
        draft = self._store_dir / f"{DRAFT}{entry.model.sha256}"
        parts = [Part(self._parts, wanted) for wanted in entry.wanted()]
        signatures = self._signatures(entry, draft, files)  # before the parts go, which a cut here must not cost
        draft.mkdir(mode=0o700)
        try:
            entry.require_names(files[0].name)  # again, because some references do not say the file's name
            for part, file in zip(parts, files, strict=True):
                place = draft / file.name
                place.parent.mkdir(parents=True, exist_ok=True)
                part.path.chmod(0o644)
                part.path.rename(place)
            _sign(draft, files, signatures)
            own = draft / files[0].name
            self._verifier.verify_file(entry.version_at(own), own)
            for inner in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
                inner.chmod(0o755)
                sync_path(inner)
            make_folder(folder.parent)
            if folder.exists():  # damaged, else it would have been taken
                shutil.rmtree(folder)
            draft.rename(folder)
            sync_path(folder.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            for part in parts:
                part.delete()
        return folder / files[0].name

    def _signatures(self, entry: Entry, folder: Path | None, files: Sequence[ModelFile]) -> list[bytes | None]:
        """Return the signatures that this device asks for; None for one that has none, or lies in `folder`."""
        if not self._setup.trusted_keys:
            return [None] * len(files)
        return [
            None
            if folder is not None and _signature(folder, file).exists()
            else self._small(wanted, _MOST_SIGNATURE_BYTES)
            for wanted, file in zip(entry.signatures(), files, strict=True)
        ]

    def _accept(self, index: str) -> Sequence[Indexed]:
        try:
            return self._verifier.accept_index(lambda name, most: self._read(index, name, most))
        except ModelError as error:
            if error.reason == "file_missing":
                raise ModelError("file_missing", f"{index}: {error}") from None
            raise

    def _read(self, index: str, name: str, most_bytes: int) -> bytes | None:
        try:
            return self._small(Wanted(f"{index.rstrip('/')}/{name}"), most_bytes)
        except ModelError as error:
            # A bucket that may not be listed answers 403 for what it lacks, such as the root after the newest.
            if error.reason == "source_refused" and name.endswith(".root.json"):
                return None
            raise

    def _small(self, wanted: Wanted, most_bytes: int) -> bytes | None:
        """Return a small file of a source; None where it is not there. Raises as `resolve`."""

        def read() -> bytes:
            with opened(resolve(wanted, self._web), self._web, 0, "") as found:
                content = bytearray()
                for chunk in found.chunks:
                    content += chunk
                    if len(content) > most_bytes:
                        raise ModelError("source_refused", f"{wanted.reference}: longer than {most_bytes >> 10} KiB")
                return bytes(content)

        try:
            return bounded(read, self._pace.stall_s, wanted.reference)
        except ModelError as error:
            if error.reason == "not_found":
                return None
            raise


def _signature(folder: Path, file: ModelFile) -> Path:
    return folder / f"{file.name}{SIGNATURE_SUFFIX}"


def _sign(folder: Path, files: Sequence[ModelFile], signatures: Sequence[bytes | None]) -> None:
    """Write signatures beside the files in `folder`. Raises OSError."""
    for file, signature in zip(files, signatures, strict=True):
        if signature is not None:
            replace_file(_signature(folder, file), signature, sync=True, mode=0o644)


def _holds(folder: Path, files: Sequence[ModelFile]) -> bool:
    try:
        return all(file_sha256(folder / file.name) == file.sha256 for file in files)
    except OSError:
        return False
