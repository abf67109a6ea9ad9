"""The catalog of model versions, with the rules that resolve a reference to one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.messages.references import ModelReference, ModelVersion, natural_key
from agent.models.catalog_entry import CatalogFile, ModelEntry, clash, held_file, rank_of
from agent.settings.fields.sources import remote_scheme
from agent.settings.findings import Finding, findings
from agent.settings.loading import tell_renamed
from agent.settings.mistakes import Mistake, SettingsError, dotted, shown
from agent.settings.renames import OF_CATALOG, Renamed, understood
from agent.settings.toml_file import read_toml

_REMEMBERED: Final = 256
"""Most lookups that are cached, because lines ask for the same few references at each tick."""


@dataclass(frozen=True)
class Catalog:
    """The versions of one models.toml, in the file's order."""

    file: Path
    versions: tuple[ModelVersion, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    """Keys that stand in the file under a name that has since been changed."""
    missing: tuple[ModelEntry, ...] = ()
    """Entries whose files are to be fetched into the store, and were not there when the file was read."""
    fetched: tuple[ModelEntry, ...] = ()
    """Entries whose files are fetched into the store, those that are there included."""

    @classmethod
    def load(cls, file: Path, store_dir: Path | None = None) -> "Catalog":
        """Read models.toml, and log its renamed keys. Raises SettingsError with every mistake in it.

        `store_dir` is where fetched files lie; None: beside `file`.
        """
        catalog = cls.read(file, store_dir)
        tell_renamed(file, catalog.renamed)
        return catalog

    @classmethod
    def read(cls, file: Path, store_dir: Path | None = None) -> "Catalog":
        """Read models.toml. Raises SettingsError with every mistake in it; opens no model's file."""
        raw, renamed, doubled = understood(read_toml(file), OF_CATALOG)
        found = [*doubled, *crosschecks(raw)]
        try:
            entries = CatalogFile.model_validate(raw, context={"base": file.absolute().parent}).model
        except ValidationError as error:
            found = [*findings(error, CatalogFile), *found]
            entries = ()
        if found:
            raise SettingsError([Mistake(str(file), dotted(path), what, wanted) for path, what, wanted in found])
        store = (store_dir or file.parent).absolute()
        fetched = tuple(entry for entry in entries if entry.is_remote)
        missing = tuple(entry for entry in fetched if not held_file(store, entry).is_file())
        return cls(file, tuple(entry.version_of(store) for entry in entries), tuple(renamed), missing, fetched)

    @property
    def largest_side(self) -> int:
        """Side of the largest model's input in pixels; 0 where a version leaves `imgsz` to its file."""
        sides = [version.imgsz for version in self.versions]
        return max((side for side in sides if side), default=0) if all(sides) else 0

    def names(self) -> tuple[str, ...]:
        """Return the models' names, in the file's order."""
        return tuple(dict.fromkeys(version.name for version in self.versions))

    def variants(self, name: str) -> tuple[str, ...]:
        """Return the variants of a model, the smallest first."""
        ranks = {version.variant: (version.rank, version.variant) for version in self.versions if version.name == name}
        return tuple(sorted(ranks, key=ranks.__getitem__))

    def matching(self, reference: ModelReference | None) -> tuple[ModelVersion, ...]:
        """Return the versions that match `reference`, in the file's order; None matches all."""
        return tuple(version for version in self.versions if reference is None or _matches(version, reference))

    def find(self, reference: ModelReference, default_variant: str) -> ModelVersion | None:
        """Return the version that `reference` resolves to; None where the catalog has none.

        Without a version: the highest by natural sort. Without a variant: `default_variant`; where the model lacks it,
        the largest variant below it, else the smallest one.
        """
        return self._find_remembered(reference, default_variant)

    @cached_property
    def _find_remembered(self) -> Callable[[ModelReference, str], ModelVersion | None]:
        return lru_cache(_REMEMBERED)(self._find)

    def _find(self, reference: ModelReference, default_variant: str) -> ModelVersion | None:
        versions = list(self.matching(reference))
        if reference.variant is None and versions:
            variant = self._nearest_variant(versions, default_variant)
            versions = [version for version in versions if version.variant == variant]
        return max(versions, key=lambda version: natural_key(version.version), default=None)

    def _nearest_variant(self, versions: list[ModelVersion], wanted: str) -> str:
        ranked = sorted(versions, key=lambda version: (version.rank, version.variant))
        if any(version.variant == wanted for version in ranked):
            return wanted
        limit = self._rank(wanted)
        below = [version for version in ranked if version.rank < limit]
        return (below[-1] if below else ranked[0]).variant

    def _rank(self, variant: str) -> float:
        ranks = [version.rank for version in self.versions if version.variant == variant]
        return ranks[0] if ranks else rank_of(variant) or 0.0


def _matches(version: ModelVersion, reference: ModelReference) -> bool:
    return (
        version.name == reference.name
        and reference.variant in {None, version.variant}
        and reference.version in {None, version.version}
    )


def _names_weights(row: dict[str, Any], file: str) -> bool:
    files = row.get("files")
    return isinstance(files, dict) and Path(file).with_suffix(".bin").name in files


def _clashes(index: int, row: dict[str, Any]) -> list[Finding]:
    """Return a finding where two files of a model that is fetched would have one name in the store."""
    file, files = row.get("file"), row.get("files")
    if not isinstance(file, str) or not isinstance(files, dict) or remote_scheme(file) is None:
        return []
    found = clash(file.partition("?")[0], files)
    if found is None:
        return []
    name, kept = found
    wanted = "one file of each suffix beside an .xml"
    return [Finding(("model", index, "files", name), f'a second file that the store would name "{kept}"', wanted)]


def crosschecks(raw: dict[str, Any]) -> list[Finding]:
    """Return a finding for each contradiction between entries of `raw`, a models.toml as it was parsed."""
    rows = raw.get("model")
    found = []
    first: dict[tuple[object, ...], int] = {}
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        if not isinstance(row, dict):
            continue
        variant = row.get("variant")
        if isinstance(variant, str) and rank_of(variant) is None and "rank" not in row:
            wanted = f"a number, since {shown(variant)} is none of n, s, m, l, x, nor one of them with a suffix"
            found.append(Finding(("model", index, "rank"), "nothing", wanted))
        file = row.get("file")
        if isinstance(file, str) and file.lower().endswith(".xml") and not _names_weights(row, file):
            weights = Path(file).with_suffix(".bin").name
            wanted = f"the sha256 of {weights} (`changeover models add` writes it)"
            found.append(Finding(("model", index, "files", weights), "nothing", wanted))
        found += _clashes(index, row)
        key = tuple(str(row.get(part)) for part in ("name", "variant", "version"))
        if first.setdefault(key, index) != index:
            wanted = f"a version that model[{first[key]}] is not: releases are immutable"
            found.append(Finding(("model", index, "version"), shown(row.get("version")), wanted))
    return found
