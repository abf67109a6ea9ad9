"""The list of models on a stick that has no signed index."""

import hashlib
import json
from typing import Any, Final

import msgspec

from agent.messages.errors import ModelError
from agent.models.catalog_entry import ModelEntry
from agent.trust.index.contents import FOLDER, KEYS, IndexedFile, IndexedModel

NAME: Final = "bundle.json"
MOST_BYTES: Final = 1 << 20
_MOST_MODELS: Final = 1024
_VERSION: Final = 1


class BundledFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model on a stick."""

    name: str
    sha256: str
    bytes: int


class BundledModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model on a stick; its first file is the main one."""

    name: str
    variant: str
    version: str
    files: tuple[BundledFile, ...]
    entry: str = "{}"
    """Further keys of its entry in the catalog, as JSON."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole bundle.json."""

    v: int
    models: tuple[BundledModel, ...]
    sha256: str = ""
    """Hash of `models`: notices damage, and protects from nobody."""


def write_manifest(models: list[IndexedModel]) -> bytes:
    """Return the content of bundle.json for these models."""
    rows = tuple(
        BundledModel(
            name=model.entry["name"],
            variant=model.entry["variant"],
            version=model.entry["version"],
            files=tuple(BundledFile(file.name, file.sha256, file.bytes) for file in model.files),
            entry=json.dumps({key: model.entry[key] for key in sorted(KEYS & model.entry.keys())}),
        )
        for model in models
    )
    return _encoded(rows)


def _encoded(rows: tuple[BundledModel, ...]) -> bytes:
    sha256 = hashlib.sha256(msgspec.json.encode(rows)).hexdigest()
    return msgspec.json.encode(Manifest(_VERSION, rows, sha256))


def read_manifest(content: bytes) -> tuple[IndexedModel, ...]:
    """Read bundle.json. Raises ModelError ("not_understood", "too_large") for any other content."""
    if len(content) > MOST_BYTES:
        raise ModelError("too_large", f"{NAME} has more than {MOST_BYTES} bytes")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
        is_whole = _encoded(manifest.models) == content
        models = tuple(map(_model, manifest.models[: _MOST_MODELS + 1]))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        why = str(error).partition("\n")[0]
        raise ModelError(
            "not_understood", f"{NAME} is no list of models as `models bundle` writes it ({why})"
        ) from None
    if not is_whole or len(models) > _MOST_MODELS or len({one.reference for one in models}) != len(models):
        raise ModelError("not_understood", f"{NAME} is damaged, of another version, or lists a model twice")
    return models


def _model(row: BundledModel) -> IndexedModel:
    main, *further = row.files
    told: dict[str, Any] = {key: value for key, value in json.loads(row.entry).items() if key in KEYS}
    entry: dict[str, Any] = {"name": row.name, "variant": row.variant, "version": row.version, "sha256": main.sha256}
    if further:
        entry["files"] = {file.name: file.sha256 for file in further}
    if "/" in main.name or len({file.name for file in row.files}) != len(row.files):
        raise ValueError("a model's files have one name twice")
    checked = ModelEntry.model_validate({**entry, **told, "file": f"/{FOLDER}/{main.name}"})
    files = tuple(IndexedFile(file.name, file.sha256, file.bytes) for file in row.files)
    return IndexedModel(f"{checked.name}:{checked.variant}@{checked.version}", files, {**entry, **told})
