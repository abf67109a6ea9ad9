"""Imports the models of a stick into the store and the catalog, verified as if they had been fetched."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import structs

from agent.files import replace_file, sync_path
from agent.messages.errors import ChangeoverError, MistakeError, ModelError, TransientError
from agent.messages.references import ModelFile, ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.models.keeping.copying import Release
from agent.models.keeping.leftovers import PARTS, STICK
from agent.models.keeping.room import Room, collector
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.models.store import Store, make_folder
from agent.trust.index.contents import IndexedFile, IndexedModel
from agent.trust.minisign import MOST_SIGNATURE_BYTES
from agent.trust.stick import manifest
from agent.trust.stick.stick_files import open_inside, read_inside
from agent.trust.verifier import Verifier, Witness

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Target:
    """Destination of imported models."""

    catalog_file: Path
    store_dir: Path
    state_dir: Path
    max_bytes: int
    min_free_bytes: int


@dataclass(frozen=True)
class Imported:
    """Result of one model of a stick."""

    reference: str
    words: str
    error: ChangeoverError | None = None

    def __str__(self) -> str:
        return f"{self.reference}\t{self.words}"


def import_models(folder: Path, target: Target, verifier: Verifier | None, tell: Callable[[Imported], None]) -> None:
    """Import every model on a stick that the catalog does not have yet; one that fails leaves the others alone.

    An import that was cut off goes on where it was. With a `verifier` that has an index, the stick's index is accepted
    first, with its revocations.

    Raises ModelError for a stick that is not trusted as a whole; after the last model, the first model's error.
    """
    models = _models(folder, verifier)
    if not models and (verifier is None or not verifier.has_index):
        raise MistakeError(f"{folder} has no models: `changeover models bundle` writes some")
    errors = []
    for model in models:
        try:
            words, error = _import(folder, model, target, verifier), None
        except ChangeoverError as failure:
            words, error = str(failure), failure
            errors.append(failure)
        tell(Imported(model.reference, words, error))
    if verifier is not None and verifier.has_index:
        _tell_revoked(target, verifier, tell)
    if errors:
        raise errors[0]


def _tell_revoked(target: Target, verifier: Verifier, tell: Callable[[Imported], None]) -> None:
    contents = verifier.verified_index().contents
    catalog = Catalog.load(target.catalog_file, target.store_dir) if target.catalog_file.exists() else None
    for version in catalog.versions if catalog is not None else ():
        why = contents.revocation(version)
        if why is not None:
            tell(Imported(version.reference, f"is never loaded again: {why}", why))


def _models(folder: Path, verifier: Verifier | None) -> tuple[IndexedModel, ...]:
    if verifier is not None and verifier.has_index:
        models = verifier.accept_index(lambda name, most_bytes: read_inside(folder, name, most_bytes))
        return tuple(model for model in models if _is_on_stick(folder, model))
    content = read_inside(folder, manifest.NAME, manifest.MOST_BYTES)
    if content is None:
        raise MistakeError(f"{folder} has no {manifest.NAME}: `changeover models bundle` writes it")
    return manifest.read_manifest(content)


def _is_on_stick(folder: Path, model: IndexedModel) -> bool:
    file = open_inside(folder, f"{model.folder}/{model.files[0].name}")
    if file is not None:
        file.close()
    return file is not None


def _import(folder: Path, model: IndexedModel, target: Target, verifier: Verifier | None) -> str:
    catalog = Catalog.load(target.catalog_file, target.store_dir) if target.catalog_file.exists() else None
    known = next((one for one in catalog.versions if one.reference == model.reference), None) if catalog else None
    if known is not None and _is_complete(known, model):
        return "is in the catalog already"
    parts = target.store_dir / PARTS / f"{STICK}{model.files[0].sha256}"
    _require_room(target, model, parts)
    files = _store_files(model)
    version = _version(model, files, parts)
    if verifier is not None:
        verifier.require_listed(version)
    _make_parts(parts)
    for kept, file in zip(files, model.files, strict=True):
        _bring(folder, f"{model.folder}/{file.name}", file, parts / kept.name, version, verifier)
    names = {kept.name for kept in files} | {f"{kept.name}{SIGNATURE_SUFFIX}" for kept in files}
    _remove_others(parts, names)
    if known is not None:
        Store(target.catalog_file, target.store_dir).bring(parts, files)
        return f"was in the catalog, and its files are here now\t{known.path}\tsha256 {known.sha256}"
    entry = dict(model.entry)
    reference = ModelReference(entry.pop("name"), entry.pop("variant"), entry.pop("version"))
    may_be_tensors = not (entry.get("task") or entry.get("layout"))  # as where it was bundled
    release = Release(reference, tuple(entry.pop("classes", ())), entry.pop("rank", None), may_be_tensors)
    for key in ("sha256", "files"):
        entry.pop(key, None)
    added = Store(target.catalog_file, target.store_dir).adopt(release, parts, files, entry)
    return f"imported\t{added.path}\tsha256 {added.sha256}"


def _is_complete(known: ModelVersion, model: IndexedModel) -> bool:
    """Return True where the catalog's files are there, False where the store waits for them.

    Raises ModelError where the catalog has another release, or names a file outside the store that is not there.
    """
    if known.sha256 != model.files[0].sha256:
        detail = f"{model.reference} is in the catalog with other content, and releases are immutable"
        raise ModelError("hash_mismatch", detail)
    own = Path(known.path)
    if own.exists() and all((own.parent / one.name).exists() for one in known.files):
        return True
    if not known.source:
        detail = f"{model.reference} is in the catalog, with a file that is not there: {known.path}"
        raise ModelError("file_missing", f"{detail}; take it out (`changeover models remove`), and import again")
    return False


def _require_room(target: Target, model: IndexedModel, parts: Path) -> None:
    """Refuse what does not fit after deleting what nobody uses, as a fetch does. Raises NoRoomError."""
    _make_parts(target.store_dir)
    store = Store(target.catalog_file, target.store_dir)
    room = Room(target.store_dir, target.max_bytes, target.min_free_bytes, collect=collector(store, target.state_dir))
    brought = sum((parts / kept.name).stat().st_size for kept in _store_files(model) if (parts / kept.name).is_file())
    room.require(max(sum(file.bytes for file in model.files) - brought, 0))


def _store_files(model: IndexedModel) -> tuple[ModelFile, ...]:
    main = f"model{Path(model.files[0].name).suffix.lower()}"
    return (ModelFile(main, model.files[0].sha256), *(ModelFile(one.name, one.sha256) for one in model.files[1:]))


def _version(model: IndexedModel, files: tuple[ModelFile, ...], parts: Path) -> ModelVersion:
    return structs.replace(model.version, path=str(parts / files[0].name), files=files[1:])


def _make_parts(parts: Path) -> None:
    try:
        make_folder(parts)  # the service's, because it fetches there too
    except OSError as error:
        raise MistakeError(f"{error.filename}: {error.strerror}; is it writable for this user?") from None


def _remove_others(parts: Path, names: set[str]) -> None:
    for path in parts.rglob("*"):
        if path.is_file() and str(path.relative_to(parts)) not in names:
            path.unlink()


def _bring(  # noqa: PLR0913, PLR0917 - one file's way, spelt out
    folder: Path, name: str, file: IndexedFile, part: Path, version: ModelVersion, verifier: Verifier | None
) -> None:
    """Copy one file and its signature, and verify the very bytes that are copied. Raises ModelError, TransientError."""
    part.parent.mkdir(parents=True, exist_ok=True)
    signature = read_inside(folder, f"{name}{SIGNATURE_SUFFIX}", MOST_SIGNATURE_BYTES)
    kept = part.with_name(f"{part.name}{SIGNATURE_SUFFIX}")
    if signature is not None:
        replace_file(kept, signature, sync=True, mode=0o644)
    else:
        kept.unlink(missing_ok=True)
    had_bytes = part.stat().st_size if part.exists() else 0
    witness = verifier.witness(version, part, kept) if verifier is not None else None
    found = _copy(folder, name, file, part, witness)
    if found != file.sha256 and had_bytes:  # what was there of an earlier try may be what is damaged
        part.unlink()
        witness = verifier.witness(version, part, kept) if verifier is not None else None
        found = _copy(folder, name, file, part, witness)
    if found != file.sha256:
        part.unlink()
        detail = f"{folder / name} has sha256 {found}, expected {file.sha256}: copy it again"
        raise ModelError("hash_mismatch", detail)
    if witness is not None:
        try:
            witness.require()
        except ModelError:
            part.unlink()
            raise


def _copy(folder: Path, name: str, file: IndexedFile, part: Path, witness: Witness | None) -> str:
    """Copy what `part` still lacks, and return the sha256 of all of it."""
    source = open_inside(folder, name)
    if source is None:
        raise ModelError("file_missing", f"{folder / name} is not there: copy the stick again, complete")
    digest = hashlib.sha256()
    try:
        with source, part.open("a+b") as copy:
            if part.stat().st_size > file.bytes:
                copy.truncate(0)
            copy.seek(0)
            _take(copy, None, digest, witness, file.bytes)
            source.seek(copy.tell())
            _take(source, copy, digest, witness, file.bytes - copy.tell())
            if source.read(1):
                raise ModelError("hash_mismatch", f"{folder / name} has more than {file.bytes} bytes")
            copy.flush()
            os.fchmod(copy.fileno(), 0o644)
            os.fsync(copy.fileno())
        sync_path(part.parent)
    except OSError as error:
        raise TransientError(f"{error.filename or name}: {error.strerror or error}: try again") from None
    return digest.hexdigest()


def _take(
    source: BinaryIO, copy: BinaryIO | None, digest: "hashlib._Hash", witness: Witness | None, most_bytes: int
) -> None:
    left = most_bytes
    while left > 0 and (chunk := source.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        if witness is not None:
            witness.write(chunk)
        if copy is not None:
            copy.write(chunk)
        left -= len(chunk)
