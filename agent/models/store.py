"""The store of model files, which copies files under their sha256 and enters them in models.toml."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.files import file_sha256, locked, replace_file, sync_path
from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelFile, ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.models.catalog_entry import BLOBS, CatalogFile, folder_name, rank_of
from agent.models.keeping.collecting import StoredRelease, delete, survey
from agent.models.keeping.copying import Release, bring, model_in, require_model_file, require_sound
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.settings.findings import findings
from agent.settings.mistakes import dotted
from agent.settings.renames import OF_CATALOG, understood

_DRAFT: Final = ".draft-"
_DRAFT_LIVES_S: Final = 3600.0
_PATIENCE_S: Final = 30.0
"""Timeout of the lock on catalog and store, which another command does not hold while it copies."""


class Store:
    """Store of model files in `store_dir`, with their entries in `catalog_file`, whose comments are kept.

    The files of each release are in one folder named by their sha256, so no two releases conflict. Several processes
    may add and remove at once, because each change holds a lock beside the catalog.
    """

    def __init__(self, catalog_file: Path, store_dir: Path) -> None:
        self._catalog_file = catalog_file
        self._store_dir = store_dir

    def add(self, release: Release, source: Path) -> ModelVersion:
        """Copy the model in `source`, a file or an exported folder, into the store, and enter it in the catalog.

        Each sha256 is computed from the bytes while they are copied. Raises MistakeError where it cannot be added.
        """
        file = model_in(source)
        self._check_new(release, file)
        try:
            make_folder(self._store_dir)
            self._sweep()
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._store_dir))
            try:
                files = bring(file, draft)
                require_sound(draft, files, file, release)
                with self._alone():
                    self._check_new(release, file)  # again, because another command may have entered it meanwhile
                    self._enter(release, self._keep(draft, files), files)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except ModelError as error:
            raise MistakeError(str(error)) from None
        except OSError as error:
            where = error.filename or self._store_dir
            raise MistakeError(f"{where}: {error.strerror or error}; is it writable for this user?") from None
        return next(version for version in self._catalog().versions if version.reference == str(release.reference))

    def adopt(self, release: Release, draft: Path, files: tuple[ModelFile, ...], keys: dict[str, Any]) -> ModelVersion:
        """Keep a folder of verified files under their sha256, and enter them in the catalog with further keys.

        `draft` lies on the store's disk and is moved. Raises MistakeError where the release cannot be entered.
        """
        try:
            require_sound(draft, files, draft / files[0].name, release)
            with self._alone():
                self._check_new(release, draft / files[0].name)
                self._enter(release, self._keep(draft, files), files, keys)
        except OSError as error:
            where = error.filename or self._store_dir
            raise MistakeError(f"{where}: {error.strerror or error}; is it writable for this user?") from None
        return next(version for version in self._catalog().versions if version.reference == str(release.reference))

    def bring(self, draft: Path, files: tuple[ModelFile, ...]) -> None:
        """Keep a folder of verified files, as `adopt` does, for a release that the catalog has already."""
        try:
            with self._alone():
                self._keep(draft, files)
        except OSError as error:
            where = error.filename or self._store_dir
            raise MistakeError(f"{where}: {error.strerror or error}; is it writable for this user?") from None

    def remove(self, reference: ModelReference) -> ModelVersion:
        """Remove a version from the catalog, and its files from the store. Raises MistakeError where it cannot.

        `reference` must name variant and version.
        """
        with self._alone():
            return self._remove(reference)

    def collect(self, uses: Mapping[str, str], needed_bytes: int | None = None) -> list[StoredRelease]:
        """Delete releases that neither the catalog nor `uses` names, the one used longest ago first; return all.

        With `needed_bytes`, only until so many are freed. Raises MistakeError for an invalid catalog, and OSError.
        """
        with self._alone():
            found = self.survey(uses)
            delete(found, needed_bytes)
            return found

    def survey(self, uses: Mapping[str, str]) -> list[StoredRelease]:
        """Return all releases, and why each would stay or go. Raises MistakeError for an invalid catalog."""
        return survey(self._catalog().versions, self._store_dir, uses)

    def enter(self, entries: Sequence[Mapping[str, Any]], remove: Sequence[str]) -> None:
        """Enter models in the catalog by one replacement of the file, and take out those of `remove`.

        An entry with a known reference replaces it. No file of the store is deleted. Raises MistakeError where the
        catalog is invalid, or cannot be written, and leaves it as it was.
        """
        with self._alone():
            document = self._document()
            wanted = [
                {key: value for key, value in entry.items() if value not in (None, "", {}, [])} for entry in entries
            ]
            there = [row.unwrap() for row in document.get("model", [])]
            wanted = [row for row in wanted if row not in there]  # because a row that stays keeps its comments
            for reference in {*remove, *map(_reference_of, wanted)}:
                rows = document.get("model", [])
                at = next((at for at, row in enumerate(rows) if _reference_of(row) == reference), None)
                if at is not None:
                    self._take_out(document, at)
            for row in wanted:
                self._append(document, row)
            try:
                context = {"base": self._catalog_file.absolute().parent}
                raw, _, _ = understood(document.unwrap(), OF_CATALOG)
                CatalogFile.model_validate(raw, context=context)
                self._write(document)
            except ValidationError as error:
                faults = findings(error, CatalogFile)
                what = "; ".join(f"{dotted(one.path)}: found {one.found}, expected {one.expected}" for one in faults)
                raise MistakeError(f"{self._catalog_file} would be invalid: {what}") from None
            except OSError as error:
                raise MistakeError(f"{error.filename}: {error.strerror}; is it writable for this user?") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Run the block with catalog and store locked against other commands; raises MistakeError after 30 s."""
        lock = self._catalog_file.with_name(f"{self._catalog_file.name}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with locked(lock, _PATIENCE_S):
                _give_to_service(lock)
                yield
        except BlockingIOError:
            what = f"another command is changing {self._catalog_file} and holds {lock}: try again when it has ended"
            raise MistakeError(what) from None

    def _remove(self, reference: ModelReference) -> ModelVersion:
        versions = self._catalog().versions
        index = next((at for at, version in enumerate(versions) if version.reference == str(reference)), None)
        if index is None:
            raise MistakeError(f"{self._catalog_file} has no {reference}: `changeover models list` shows what it has")
        version = versions[index]
        document = self._document()
        self._take_out(document, index)
        try:
            self._write(document)
            self._delete(version, [other for at, other in enumerate(versions) if at != index])
        except OSError as error:
            raise MistakeError(f"{error.filename}: {error.strerror}; is it writable for this user?") from None
        return version

    def _delete(self, version: ModelVersion, others: list[ModelVersion]) -> None:
        """Delete the version's files that no other version uses; a file outside the store is the user's, and stays."""
        folder = Path(version.path).parent
        if folder.parent == self._blobs:
            if not any(Path(other.path).parent == folder for other in others):
                shutil.rmtree(folder, ignore_errors=not folder.exists())
        elif folder == self._store_dir.absolute():  # a release of an older version, which had no folder of its own
            kept = {path for other in others for path in _paths(other)}
            for path in set(_paths(version)) - kept:
                path.unlink(missing_ok=True)

    @property
    def _blobs(self) -> Path:
        return self._store_dir.absolute() / BLOBS

    def _keep(self, draft: Path, files: tuple[ModelFile, ...]) -> Path:
        """Rename a draft to the folder of its sha256, unless the same files are there already; return the folder."""
        folder = self._blobs / folder_name(files)
        make_folder(folder.parent)
        if folder.exists():
            if _holds(folder, files):
                for signature in draft.glob(f"*{SIGNATURE_SUFFIX}"):
                    signature.replace(folder / signature.name)
                return folder
            # a damaged folder, which _sweep removes later
            folder.rename(self._store_dir / f"{_DRAFT}{folder.name}-{time.monotonic_ns()}")
        for inner in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            inner.chmod(0o755)  # because the service must read files that an administrator added
        draft.rename(folder)
        sync_path(folder.parent)
        return folder

    def _sweep(self) -> None:
        """Remove drafts more than an hour old, which `add` commands left when they were killed."""
        for draft in self._store_dir.glob(f"{_DRAFT}*"):
            with suppress(OSError):
                if time.time() - draft.stat().st_ctime > _DRAFT_LIVES_S:
                    shutil.rmtree(draft, ignore_errors=True)

    def _catalog(self) -> Catalog:
        return (
            Catalog.load(self._catalog_file, self._store_dir)
            if self._catalog_file.exists()
            else Catalog(self._catalog_file)
        )

    def _check_new(self, release: Release, file: Path) -> None:
        reference = release.reference
        if reference.variant is None or reference.version is None:
            raise MistakeError(f"found {reference}, expected a full reference NAME:VARIANT@VERSION")
        if release.rank is None and rank_of(reference.variant) is None:
            raise MistakeError(f'the variant "{reference.variant}" is none of n, s, m, l, x: say its order with --rank')
        require_model_file(file)
        if any(version.reference == str(reference) for version in self._catalog().versions):
            raise MistakeError(
                f"{reference} is in {self._catalog_file} already, and releases are immutable: give a new version"
            )

    def _document(self) -> Any:  # noqa: ANN401 - tomlkit's tables answer as dict, list and more, untyped
        import tomlkit  # noqa: PLC0415 - only these two commands write TOML; the agent never loads it

        text = self._catalog_file.read_text(encoding="utf-8-sig") if self._catalog_file.exists() else ""
        return tomlkit.parse(text)

    def _take_out(self, document: Any, index: int) -> None:  # noqa: ANN401 - see _document
        """Delete an entry; the comments that follow it are of the next one, or of the file's end, and stay."""
        import tomlkit  # noqa: PLC0415 - as above

        rows = document["model"]
        follows = _comments_after(rows[index].as_string())
        if follows and index + 1 < len(rows):
            rows[index + 1].trivia.indent = follows + rows[index + 1].trivia.indent
        elif follows:
            for line in follows.splitlines():
                document.add(tomlkit.comment(line.lstrip("# ")) if line.strip() else tomlkit.nl())
        del document["model"][index]
        if not document["model"]:
            del document["model"]  # because tomlkit writes an empty list, to which no table can be added

    def _append(self, document: Any, row: Mapping[str, Any]) -> None:  # noqa: ANN401 - see _document
        import tomlkit  # noqa: PLC0415 - as above

        table = tomlkit.table()
        for key, value in row.items():
            if value is None:
                continue  # because TOML has no null, which JSON of an order, an index or a stick may hold
            if isinstance(value, Mapping):
                inner = tomlkit.inline_table()
                inner.update({name: one for name, one in value.items() if one is not None})
                table[key] = inner
            else:
                table[key] = list(value) if isinstance(value, tuple) else value
        if "model" not in document:
            document["model"] = tomlkit.aot()
        document["model"].append(table)

    def _enter(
        self, release: Release, folder: Path, files: tuple[ModelFile, ...], keys: dict[str, Any] | None = None
    ) -> None:
        base = self._catalog_file.absolute().parent
        path = folder / files[0].name
        reference = release.reference
        row: dict[str, Any] = {"name": reference.name, "variant": reference.variant, "version": reference.version}
        row["file"] = str(path.relative_to(base) if path.is_relative_to(base) else path)
        row["sha256"] = files[0].sha256
        if len(files) > 1:
            row["files"] = {file.name: file.sha256 for file in files[1:]}
        if release.classes:
            row["classes"] = list(release.classes)
        if release.rank is not None:
            row["rank"] = release.rank
        document = self._document()
        self._append(document, row | (keys or {}))
        self._write(document)

    def _write(self, document: Any) -> None:  # noqa: ANN401 - see _document
        import tomlkit  # noqa: PLC0415 - as above

        self._catalog_file.parent.mkdir(parents=True, exist_ok=True)
        mode = self._catalog_file.stat().st_mode & 0o777 if self._catalog_file.exists() else 0o644
        replace_file(self._catalog_file, tomlkit.dumps(document).encode(), sync=True, mode=mode)
        _give_to_service(self._catalog_file)


def _comments_after(table: str) -> str:
    """Return the lines after a table's last key, from the first that is a comment on; empty where none is."""
    lines = table.splitlines(keepends=True)
    last = max((at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), default=-1)
    text = "".join(lines[last + 1 :])
    return text.lstrip("\n") if "#" in text else ""


def _reference_of(row: Mapping[str, Any]) -> str:
    return f"{row.get('name')}:{row.get('variant')}@{row.get('version')}"


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, readable for all users whatever the umask, because the service reads there."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        if os.geteuid() == 0:  # because the service fetches into folders that root's commands made
            above = folder.parent.stat()
            os.chown(folder, above.st_uid, above.st_gid, follow_symlinks=False)


def _give_to_service(file: Path) -> None:
    """Give a file that root's command made to the owner of the folder around it, which is the service's user."""
    if os.geteuid() == 0:
        folder = file.parent.stat()
        os.chown(file, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _paths(version: ModelVersion) -> list[Path]:
    path = Path(version.path)
    return [path, *(path.parent / file.name for file in version.files)]


def _holds(folder: Path, files: tuple[ModelFile, ...]) -> bool:
    try:
        return all(file_sha256(folder / file.name) == file.sha256 for file in files)
    except OSError:
        return False
