"""Access of model orders to the catalog and the configuration."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from agent.control.plant import Plant, Supply
from agent.messages.references import ModelVersion
from agent.models.catalog import Catalog, crosschecks
from agent.models.catalog_entry import CatalogFile, ModelEntry
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.settings import CatalogSettings, Settings, dotted, findings
from agent.settings.fields.sources import is_open, window_of
from agent.trust.index_state import read_index_state

_MOST_MODELS: Final = 64
_MOST_MISTAKES: Final = 4
_REMEMBERED: Final = 8
_UNSAFE: Final = "found true, expected false: models.toml alone says that a pickle may be opened without walls"


def supply_of(settings: Settings, catalog: Catalog, plant_with: Callable[[Catalog], Plant]) -> Supply:
    """Build control's view of the models that can be ordered; `plant_with` builds a plant with another catalog."""
    store, base = settings.catalog.store_dir, catalog.file.absolute().parent

    @lru_cache(_REMEMBERED)
    def versions(entries: tuple[bytes, ...]) -> tuple[ModelVersion, ...]:
        return tuple(_entry(entry, base).version_of(store) for entry in entries)

    def amended(entries: tuple[bytes, ...], remove: tuple[str, ...]) -> Plant:
        return plant_with(_amended(catalog, versions(entries), remove))

    return Supply(
        read=lambda content: _read(content, base),
        versions=versions,
        amended=amended,
        closed="" if os.access(base, os.W_OK) else _closed(catalog.file, settings.device.state_dir),
        missing=tuple(as_json(entry) for entry in _to_fetch(settings.catalog, catalog)),
        revoked=_revoked(settings, catalog),
        index=settings.catalog.index,
        window=settings.supply.window,
        in_window=lambda unix_s: in_window(settings.supply.window, unix_s),
    )


def _closed(file: Path, state_dir: Path) -> str:
    """Return the words, with the cure, about a catalog in a folder that the service may not write."""
    file, state_dir = file.absolute(), state_dir.absolute()
    target = state_dir / file.name
    commands = f"`sudo mv {file} {target} && sudo chown --reference={state_dir} {target}`"
    why = f"{file.parent} is closed to the service, which enters ordered models in {file.name}"
    return f'{why}: {commands}, and set catalog.file = "{target}"'


def _revoked(settings: Settings, catalog: Catalog) -> tuple[str, ...]:
    index = read_index_state(settings.device.state_dir) if settings.catalog.root else None
    if index is None:
        return ()
    return tuple(one.reference for one in catalog.versions if index.revokes(one))


def _to_fetch(settings: CatalogSettings, catalog: Catalog) -> Iterator[ModelEntry]:
    """Yield the entries whose files the store lacks, and then those of which it lacks a signature."""
    yield from catalog.missing
    yield from (one for one in catalog.fetched if one not in catalog.missing and lacks_signature(settings, one))


def lacks_signature(settings: CatalogSettings, entry: ModelEntry) -> bool:
    """Return True where the settings ask for signatures, and one is not there because they did not when it came."""
    if not settings.trusted_keys:
        return False
    version = entry.version_of(settings.store_dir)
    own = Path(version.path)
    files = (own, *(own.parent / file.name for file in version.files))
    return not all(file.with_name(file.name + SIGNATURE_SUFFIX).is_file() for file in files)


def as_json(entry: ModelEntry) -> bytes:
    """Return the JSON of a catalog entry, with the keys of models.toml."""
    return entry.model_dump_json(exclude_unset=True).encode()


def in_window(window: str, unix_s: float) -> bool:
    """Return True for a time in the download window, by the device's own time zone; always without a window."""
    found = window_of(window)
    return found is None or is_open(found, datetime.fromtimestamp(unix_s).astimezone().time())


def _read(content: object, base: Path) -> tuple[bytes, ...]:
    """Decode the models of an order. Raises ValueError with its mistakes."""
    if not isinstance(content, list) or not 0 < len(content) <= _MOST_MODELS:
        raise ValueError(f"models: expected a list of 1 to {_MOST_MODELS} models, with the keys of models.toml")
    raw: dict[str, Any] = {"model": content}
    found = list(crosschecks(raw))
    try:
        entries = CatalogFile.model_validate(raw, context={"base": base}).model
    except ValidationError as error:
        found = [*findings(error, CatalogFile), *found]
        entries = ()
    if found:
        words = [f"{dotted(one.path)}: found {one.found}, expected {one.expected}" for one in found[:_MOST_MISTAKES]]
        raise ValueError("; ".join(words))
    if any(entry.unsafe for entry in entries):
        raise ValueError(f"unsafe: {_UNSAFE}")
    return tuple(as_json(entry) for entry in entries)


def _entry(entry: bytes, base: Path) -> ModelEntry:
    try:
        return ModelEntry.model_validate(msgspec.json.decode(entry), context={"base": base})
    except (ValidationError, msgspec.DecodeError) as error:
        raise ValueError(f"an entry that is no model: {error}") from None


def _amended(catalog: Catalog, added: tuple[ModelVersion, ...], remove: tuple[str, ...]) -> Catalog:
    known = {version.reference: version for version in catalog.versions}
    for version in added:
        before = known.get(version.reference)
        if before is not None and (before.sha256, before.files) != (version.sha256, version.files):
            words = "is in the catalog with another sha256, and releases are immutable: give a new version"
            raise ValueError(f"{version.reference} {words}")
        if version.reference in remove:
            raise ValueError(f"{version.reference} is ordered and removed at once")
        known[version.reference] = version
    kept = tuple(version for reference, version in known.items() if reference not in remove)
    return Catalog(catalog.file, kept)
