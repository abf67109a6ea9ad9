"""Reads the models and the revocations out of verified metadata."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from agent.files import is_sha256
from agent.messages.errors import ModelError
from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog_entry import ModelEntry
from agent.models.model_files import is_inside

_LOG: Final = logging.getLogger(__name__)

FOLDER: Final = "models"
"""Folder of an index under which the files of its models lie."""
KEYS: Final = frozenset({"backend", "imgsz", "confidence", "iou", "classes", "rank", "layout", "task", "preprocess"})
"""Keys of a catalog's entry that an index may set; never those that lift a protection or name another file."""
_ANSWERING: Final = ("confidence", "iou", "classes", "imgsz", "layout", "task", "preprocess")
"""Keys that decide what a model answers, and so must be as the index has signed them."""


@dataclass(frozen=True)
class IndexedFile:
    """One file of a model, as the index has signed it."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class IndexedModel:
    """One version of a model, as the index has signed it; its first file is the main one."""

    reference: str
    files: tuple[IndexedFile, ...]
    entry: dict[str, Any]
    """Keys and values of its `[[model]]`, but `file`."""

    @property
    def folder(self) -> str:
        """Folder of its files, relative to the index."""
        return f"{FOLDER}/{self.entry['name']}/{self.entry['variant']}/{self.entry['version']}"

    @property
    def version(self) -> ModelVersion:
        """The version as the index has signed it, with its file beside nothing."""
        return ModelEntry.model_validate({**self.entry, "file": self.files[0].name}).version_of(Path())

    def entry_at(self, place: str) -> bytes:
        """Return the whole entry as JSON, with its file under `place`: a folder or a URL."""
        file = f"{place.rstrip('/')}/{self.folder}/{self.files[0].name}"
        return msgspec.json.encode({**self.entry, "file": file})


@dataclass(frozen=True)
class Contents:
    """Contents of a verified index."""

    models: dict[str, IndexedModel] = field(default_factory=dict)
    """By full reference, without those that are revoked."""
    revoked_models: tuple[str, ...] = ()
    """References, of which the variant may be left out: all variants are then revoked."""
    revoked_sha256: frozenset[str] = frozenset()

    def require(self, version: ModelVersion) -> None:
        """Raise ModelError where the index has revoked a version ("revoked"), or has not signed it ("unsigned")."""
        revocation = self.revocation(version)
        if revocation is not None:
            raise revocation
        found = self.models.get(version.reference)
        if found is None:
            raise ModelError("unsigned", f"the index has no {version.reference}: `changeover index add` enters it")
        declared = {file.name: file.sha256 for file in version.files}
        signed = {file.name: file.sha256 for file in found.files[1:]}
        if version.sha256.lower() != found.files[0].sha256 or declared != signed:
            raise ModelError("unsigned", f"{version.reference}: its sha256 in the catalog is not that of the index")
        signed_version = found.version
        for key in _ANSWERING:
            here, there = getattr(version, key), getattr(signed_version, key)
            if here != there:
                what = f"its {key} in the catalog is {here!r}, and the index has signed {there!r}"
                raise ModelError("unsigned", f"{version.reference}: {what}: take it out of models.toml")

    def revocation(self, version: ModelVersion) -> ModelError | None:
        """Return the error of a version that the index has revoked, by its name or by one of its files; else None."""
        reference = ModelReference(version.name, version.variant, version.version)
        if is_revoked(reference, self.revoked_models):
            return ModelError("revoked", f"{version.reference} was revoked: take another version")
        if {version.sha256.lower(), *(file.sha256 for file in version.files)} & self.revoked_sha256:
            return ModelError(
                "revoked", f"a file of {version.reference} was revoked by its maker: take another version"
            )
        return None


def is_revoked(reference: ModelReference, revoked: tuple[str, ...]) -> bool:
    """Return True where one of the references `revoked` names this one, or all variants of it."""
    return str(reference) in revoked or f"{reference.name}@{reference.version}" in revoked


def read_contents(targets: Targets, delegated: dict[str, Targets]) -> Contents:
    """Return what verified lists of models say; an entry that this version cannot read is left out, and logged.

    The index's own models come before those of delegations, and these in their order; the first one of a name counts.
    """
    revoked = targets.unrecognized_fields.get("revoked")
    words = revoked if isinstance(revoked, dict) else {}
    names = tuple(name for name in _list(words.get("models")) if isinstance(name, str))
    hashes = frozenset(value for value in _list(words.get("sha256")) if isinstance(value, str) and is_sha256(value))
    found: dict[str, IndexedModel] = {}
    for model in _models(targets.targets, None):
        found.setdefault(model.reference, model)
    roles = targets.delegations.roles if targets.delegations is not None else None
    for name, role in (roles or {}).items():
        if name in delegated:
            for model in _models(delegated[name].targets, role):
                found.setdefault(model.reference, model)
    good = {
        key: model
        for key, model in found.items()
        if not is_revoked(_reference(model.entry), names) and not {file.sha256 for file in model.files} & hashes
    }
    return Contents(good, names, hashes)


def _models(targets: dict[str, TargetFile], role: DelegatedRole | None) -> list[IndexedModel]:
    found = []
    for path, target in targets.items():
        if role is not None and not role.is_delegated_path(path):
            continue  # because a delegate may sign only what its patterns name
        try:
            found.append(read_model(path, target))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _LOG.warning("event=index_entry_unread path=%r error=%r", path, str(error).partition("\n")[0])
    return found


def read_model(path: str, target: TargetFile) -> IndexedModel:
    """Read one entry. Raises ValueError, KeyError or TypeError where it is none that this version can read."""
    custom = target.custom
    told = json.loads(custom["entry"])  # text, because TUF's canonical JSON has no fractions
    words = {key: value for key, value in told.items() if key in KEYS}
    name, variant, version, file = PurePosixPath(path).parts
    main = IndexedFile(file, _sha256(target.hashes["sha256"]), target.length)
    files = [main, *(_further(name, value) for name, value in sorted(custom.get("files", {}).items()))]
    entry = {"name": name, "variant": variant, "version": version, "sha256": main.sha256, **words}
    if len(files) > 1:
        entry["files"] = {one.name: one.sha256 for one in files[1:]}
    checked = ModelEntry.model_validate({**entry, "file": file})
    return IndexedModel(f"{checked.name}:{checked.variant}@{checked.version}", tuple(files), entry)


def _further(name: str, value: dict[str, Any]) -> IndexedFile:
    if not is_inside(name) or not isinstance(value["length"], int):
        raise ValueError(f"no file of a model: {name!r}")
    return IndexedFile(name, _sha256(value["sha256"]), value["length"])


def _sha256(value: str) -> str:
    if not is_sha256(value):
        raise ValueError(f"no sha256: {value!r}")
    return value


def _reference(entry: dict[str, Any]) -> ModelReference:
    return ModelReference(entry["name"], entry["variant"], entry["version"])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
