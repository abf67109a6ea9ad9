"""Writes models of a device's catalog to a stick, with what another device needs to verify them."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from agent.files import open_regular, replace_file, stream_sha256, sync_path
from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelVersion
from agent.models.catalog_entry import rank_of
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.trust.index.contents import KEYS, IndexedFile, IndexedModel
from agent.trust.index.kept_index import KeptIndex
from agent.trust.stick import manifest
from agent.trust.verifier import Verifier


def bundle(out: Path, versions: list[ModelVersion], verifier: Verifier | None) -> list[str]:
    """Write models to the folder `out`, verified where anything is configured; return lines for the user.

    Files that are there already with the right sha256 are left as they are, so a bundle that was cut off goes on.

    Raises ModelError for a model that is not trusted or not whole, and MistakeError where `out` cannot be written.
    """
    models, lines = [], []
    index = verifier.verified_index() if verifier is not None and verifier.has_index else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        for version in versions:
            if verifier is not None:
                verifier.verify_file(version, Path(version.path))
            model = index.contents.models[version.reference] if index is not None else _model(version)
            lines += [f"bundled {version.reference}", *_bring(version, model, out, verifier)]
            models.append(model)
        if index is not None:
            _write_index(index.kept, out)
        replace_file(out / manifest.NAME, manifest.write_manifest(models), sync=True, mode=0o644)
    except OSError as error:
        raise MistakeError(f"{error.filename or out}: {(error.strerror or str(error)).lower()}") from None
    return lines


def _write_index(kept: KeptIndex, out: Path) -> None:
    for name, content in sorted(kept.files.items(), key=lambda one: one[0] == "timestamp.json"):
        replace_file(out / name, content, sync=True, mode=0o644)  # the timestamp last, because it names the others


def _model(version: ModelVersion) -> IndexedModel:
    path = Path(version.path)
    main = IndexedFile(f"model{path.suffix.lower()}", version.sha256, path.stat().st_size)
    further = [IndexedFile(file.name, file.sha256, (path.parent / file.name).stat().st_size) for file in version.files]
    entry: dict[str, Any] = {"name": version.name, "variant": version.variant, "version": version.version}
    plain = ModelVersion(version.name, version.variant, version.version, version.path, version.sha256)
    entry |= {key: getattr(version, key) for key in KEYS - {"rank"} if getattr(version, key) != getattr(plain, key)}
    if "preprocess" in entry:
        entry["preprocess"] = {key: one for key, one in asdict(version.preprocess).items() if one not in {"", None}}
    if version.rank != (rank_of(version.variant) or 0.0):
        entry["rank"] = version.rank
    return IndexedModel(version.reference, (main, *further), entry)


def _bring(version: ModelVersion, model: IndexedModel, out: Path, verifier: Verifier | None) -> list[str]:
    source, folder = Path(version.path), out / model.folder
    names = [source.name, *(file.name for file in version.files)]
    unsigned = []
    for name, file in zip(names, _ordered(model, version), strict=True):
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _is_there(target, file.sha256):
            _copy(source.parent / name, target, file)
        signature = Verifier.signature_of(version, source.parent / name, is_main=name == source.name)
        if signature.is_file():
            content = signature.read_bytes()
            replace_file(target.with_name(target.name + SIGNATURE_SUFFIX), content, sync=True, mode=0o644)
        elif verifier is None:
            unsigned.append(file.name)
    sync_path(folder)
    if unsigned:
        return [f"{version.reference} has no signature: only a device without trusted_keys and root takes it"]
    return []


def _ordered(model: IndexedModel, version: ModelVersion) -> list[IndexedFile]:
    """Return the files of the bundle in the order in which the version names its own."""
    by_name = {file.name: file for file in model.files[1:]}
    return [model.files[0], *(by_name[file.name] for file in version.files)]


def _is_there(path: Path, sha256: str) -> bool:
    try:
        with open_regular(path) as file:
            return stream_sha256(file) == sha256
    except OSError:
        return False


def _copy(source: Path, target: Path, file: IndexedFile) -> None:
    draft = target.with_name(f"{target.name}.part")
    with suppress(FileNotFoundError):
        draft.unlink()
    with open_regular(source) as origin, draft.open("xb") as copy:
        found = stream_sha256(origin, copy)
        copy.flush()
        os.fsync(copy.fileno())
    if found != file.sha256:
        draft.unlink()
        raise ModelError("hash_mismatch", f"{source} has sha256 {found}, expected {file.sha256}")
    draft.replace(target)
