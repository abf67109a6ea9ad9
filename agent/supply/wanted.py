"""Models that a job fetches, and the files of each."""

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import structs
from pydantic import ValidationError

from agent.messages.errors import ModelError
from agent.messages.references import ModelFile, ModelVersion
from agent.models.catalog_entry import ModelEntry, clash, kept_name
from agent.models.model_files import SIGNATURE_SUFFIX


@dataclass(frozen=True)
class Wanted:
    """One file: a model's own, or one beside it."""

    reference: str
    """Reference of the model's own file, as in the catalog."""
    sha256: str = ""
    """In hex; of the model's own file where this one's is not known, as of a signature."""
    beside: str = ""
    """Path relative to the folder of the model's file; empty: the model's file itself."""
    ending: str = ""
    """Text appended to the file's name, such as ".minisig"."""
    is_signature: bool = False
    """True for a signature, whose own sha256 nobody has told."""

    @property
    def is_named(self) -> bool:
        """True for a signature that the catalog names, so that no other one can stand in for it."""
        return self.is_signature and bool(self.beside) and not self.ending

    def name_beside(self, own: str) -> str:
        """Return this file's path, where `own` is the path of the model's file."""
        path = str(PurePosixPath(own).parent / self.beside) if self.beside else own
        return path + self.ending


@dataclass(frozen=True)
class Entry:
    """One model of a job."""

    raw: dict[str, Any]
    """Keys of its `[[model]]`, as they came."""
    model: ModelEntry

    @classmethod
    def parse(cls, data: bytes) -> "Entry":
        """Parse a model's JSON. Raises ModelError where it is no entry of a catalog."""
        try:
            raw = json.loads(data)
            entry = cls(raw, ModelEntry.model_validate(raw))
        except (ValidationError, ValueError, RecursionError):
            raise ModelError("not_understood", "a model of the job is no entry of a catalog, as JSON") from None
        entry.require_names(entry.model.file.partition("?")[0])
        return entry

    def require_names(self, file: str) -> None:
        """Raise ModelError where two files of the model would have one name in the store, beside `file`."""
        found = clash(file, self.model.files)
        if found is not None:
            detail = f'{found[0]} is a second file that the store would name "{found[1]}": name one of each suffix'
            raise ModelError("not_understood", f"{self.model.file}: {detail}")

    def wanted(self) -> tuple[Wanted, ...]:
        """Return the files of the model, its own first."""
        further = (Wanted(self.model.file, sha256, name) for name, sha256 in self.model.files.items())
        return (Wanted(self.model.file, self.model.sha256), *further)

    def signatures(self) -> tuple[Wanted, ...]:
        """Return the signatures of `wanted`, in its order."""
        named = self.model.signature
        files = self.wanted()
        own = _signature_of(files[0])
        if "://" in named or named.startswith("/"):
            own = Wanted(named, is_signature=True)
        elif named:
            own = replace(own, beside=named, ending="")
        return (own, *map(_signature_of, files[1:]))

    def kept(self, suffix: str) -> tuple[ModelFile, ...]:
        """Return the files of `wanted` under their names in the store, where the own one has this suffix."""
        own = f"model{suffix}"
        further = (ModelFile(kept_name(own, name), sha256) for name, sha256 in self.model.files.items())
        return (ModelFile(own, self.model.sha256), *further)

    def version_at(self, path: Path) -> ModelVersion:
        """Return the version, whose own file lies at `path` and the others beside it under the store's names."""
        version = self.model.version_of(path.parent)
        return structs.replace(version, path=str(path), files=self.kept(path.suffix)[1:], signature="")


def _signature_of(file: Wanted) -> Wanted:
    return replace(file, ending=SIGNATURE_SUFFIX, is_signature=True)
