"""The models' files on disk: known by their sha256, copied into the store, named in models.toml."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.models.entry import SUFFIXES, rank_of

_CHUNK_BYTES: Final = 2**20


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def mismatch(version: ModelVersion) -> ModelError | None:
    """Return what is wrong with the version's files: missing, or of another sha256. Reads them whole."""
    path = Path(version.path)
    wanted = {path: version.sha256}
    if path.suffix == ".xml":
        wanted[path.with_suffix(".bin")] = version.weights_sha256 or ""
    for file, sha256 in wanted.items():
        try:
            found = file_sha256(file)
        except OSError as error:
            return ModelError("file_missing", f"{file}: {error.strerror or 'cannot be read'}")
        if sha256 and found != sha256:
            return ModelError("hash_mismatch", f"{file} has sha256 {found}, not {sha256}")
    return None


def verify(version: ModelVersion) -> None:
    """Raise ModelError unless the version's file is there and has its sha256."""
    error = mismatch(version)
    if error is not None:
        raise error


class Store:
    """Adds and removes versions: the file in `store_dir`, the entry in `catalog_file`, whose comments stay."""

    def __init__(self, catalog_file: Path, store_dir: Path) -> None:
        self._catalog_file = catalog_file
        self._store_dir = store_dir

    def add(self, reference: ModelReference, file: Path, rank: float | None = None) -> ModelVersion:
        """Copy `file` into the store and enter it as `reference`, which must be full. Raises MistakeError."""
        self._check_new(reference, file, rank)
        target = self._store_dir / f"{reference.name}-{reference.variant}-{reference.version}{file.suffix}"
        try:
            self._store_dir.mkdir(parents=True, exist_ok=True)
            _copy(file, target)
            if file.suffix == ".xml":
                _copy(file.with_suffix(".bin"), target.with_suffix(".bin"))
            self._enter(reference, target, rank)
        except OSError as error:
            raise MistakeError(f"{error.filename or target}: {error.strerror}; is it writable for this user?") from None
        return next(version for version in self._catalog().versions if version.reference == str(reference))

    def remove(self, reference: ModelReference) -> ModelVersion:
        """Take a version, named in full, out of the catalog, and its file out of the store. Raises MistakeError."""
        versions = self._catalog().versions
        index = next((at for at, version in enumerate(versions) if version.reference == str(reference)), None)
        if index is None:
            raise MistakeError(f"{self._catalog_file} has no {reference}: `changeover models list` shows what it has")
        version = versions[index]
        document = self._document()
        del document["model"][index]
        try:
            self._write(document)
            if not any(other.path == version.path for at, other in enumerate(versions) if at != index):
                self._delete(Path(version.path))
        except OSError as error:
            raise MistakeError(f"{error.filename}: {error.strerror}; is it writable for this user?") from None
        return version

    def _delete(self, path: Path) -> None:
        if path.parent != self._store_dir.absolute():
            return  # a file that the user keeps elsewhere is the user's
        path.unlink(missing_ok=True)
        if path.suffix == ".xml":
            path.with_suffix(".bin").unlink(missing_ok=True)

    def _catalog(self) -> Catalog:
        return Catalog.load(self._catalog_file) if self._catalog_file.exists() else Catalog(self._catalog_file)

    def _check_new(self, reference: ModelReference, file: Path, rank: float | None) -> None:
        if reference.variant is None or reference.version is None:
            raise MistakeError(f"found {reference}, expected a full reference NAME:VARIANT@VERSION")
        if rank is None and rank_of(reference.variant) is None:
            raise MistakeError(f'the variant "{reference.variant}" is none of n, s, m, l, x: say its order with --rank')
        if file.suffix not in SUFFIXES:
            raise MistakeError(f"{file}: expected a file that ends in {', '.join(SUFFIXES)}")
        if not file.is_file() or (file.suffix == ".xml" and not file.with_suffix(".bin").is_file()):
            raise MistakeError(f"{file}: no such file (an .xml needs its .bin beside it)")
        if any(version.reference == str(reference) for version in self._catalog().versions):
            raise MistakeError(
                f"{reference} is in {self._catalog_file} already, and releases are immutable: give a new version"
            )

    def _document(self) -> Any:  # noqa: ANN401 - tomlkit's tables answer as dict, list and more, untyped
        import tomlkit  # noqa: PLC0415 - only these two commands write TOML; the agent never loads it

        text = self._catalog_file.read_text(encoding="utf-8-sig") if self._catalog_file.exists() else ""
        return tomlkit.parse(text)

    def _enter(self, reference: ModelReference, target: Path, rank: float | None) -> None:
        import tomlkit  # noqa: PLC0415 - as above

        document = self._document()
        row = tomlkit.table()
        base = self._catalog_file.absolute().parent
        path = target.absolute()
        row.update({"name": reference.name, "variant": reference.variant, "version": reference.version})
        row["file"] = str(path.relative_to(base) if path.is_relative_to(base) else path)
        row["sha256"] = file_sha256(target)
        if target.suffix == ".xml":
            row["weights_sha256"] = file_sha256(target.with_suffix(".bin"))
        if rank is not None:
            row["rank"] = rank
        if "model" not in document:
            document["model"] = tomlkit.aot()
        document["model"].append(row)
        self._write(document)

    def _write(self, document: Any) -> None:  # noqa: ANN401 - see _document
        import tomlkit  # noqa: PLC0415 - as above

        self._catalog_file.parent.mkdir(parents=True, exist_ok=True)
        mode = self._catalog_file.stat().st_mode & 0o777 if self._catalog_file.exists() else 0o644
        with tempfile.NamedTemporaryFile("w", dir=self._catalog_file.parent, encoding="utf-8", delete=False) as stream:
            stream.write(tomlkit.dumps(document))
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(stream.name).replace(self._catalog_file)


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that `target` is there whole, or not at all."""
    if target.exists() and target.samefile(source):
        return
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as stream:
        try:
            with source.open("rb") as origin:
                shutil.copyfileobj(origin, stream, _CHUNK_BYTES)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        except OSError:
            Path(stream.name).unlink()
            raise
    Path(stream.name).replace(target)
