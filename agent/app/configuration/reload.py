"""Reload of configuration and catalog while the agent runs."""

import logging
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from agent.app.configuration.plant_builder import plant_of
from agent.app.context import Context
from agent.control.events import CatalogRead, Reloaded
from agent.messages.errors import MistakeError
from agent.models.catalog import Catalog
from agent.settings import Settings

_log: Final = logging.getLogger(__name__)
_FOR_LIFE: Final = ("device", "mqtt", "outbox", "http", "web", "stream", "group")
"""Sections read at the start only, but for `device.log_level`; a change of these needs a restart."""
_TRUST: Final = ("trusted_keys", "index", "root", "require_fresh")
"""Keys of `catalog` that decide what may be loaded; the worker is told of them when it starts."""
_NAMED: Final = 8
"""Changed keys that the answer names; further ones are counted."""


def read_again(context: Context) -> tuple[Context, Reloaded]:
    """Reload configuration and catalog; on a mistake, return the old context and the reason."""
    if context.reread is None:
        return context, Reloaded(None, "this agent was started without a configuration file")
    try:
        settings = context.reread()
        catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
        if settings.line.keys() != context.settings.line.keys():
            others = sorted(settings.line.keys() ^ context.settings.line.keys())
            return context, Reloaded(None, f"other lines need a restart: {', '.join(others)}")
        fresh = Context(_kept(context.settings, settings), catalog, context.boot, context.reread)
        return fresh, Reloaded(plant_of(fresh.settings, catalog, context.boot), _left_out(context.settings, settings))
    except MistakeError as error:
        return context, Reloaded(None, str(error))


def catalog_again(context: Context) -> tuple[Context, CatalogRead]:
    """Read the catalog again, and no other file; on a mistake, return the old context and the reason."""
    try:
        catalog = Catalog.load(context.settings.catalog.file, context.settings.catalog.store_dir)
    except MistakeError as error:
        _log.warning("event=catalog_read ok=False detail=%r", str(error))
        return context, CatalogRead(None, str(error))
    _log.info("event=catalog_read ok=True models=%d", len(catalog.versions))
    fresh = Context(context.settings, catalog, context.boot, context.reread)
    return fresh, CatalogRead(plant_of(fresh.settings, catalog, context.boot))


def _kept(before: Settings, read: Settings) -> Settings:
    kept = {name: getattr(before, name) for name in _FOR_LIFE}
    kept["device"] = before.device.model_copy(update={"log_level": read.device.log_level})
    kept["line"] = {id_: line.model_copy(update={"group": before.line[id_].group}) for id_, line in read.line.items()}
    kept["catalog"] = read.catalog.model_copy(update={key: getattr(before.catalog, key) for key in _TRUST})
    return read.model_copy(update=kept)


def _left_out(before: Settings, read: Settings) -> str:
    """Name the changed keys that need a restart, never their values, which may be secret."""
    changed = [key for name in _FOR_LIFE for key in _changes(name, getattr(before, name), getattr(read, name))]
    changed += [f"line.{id_}.group" for id_, line in read.line.items() if line.group != before.line[id_].group]
    trusts = {key: getattr(read.catalog, key) for key in _TRUST}
    changed += _changes("catalog", before.catalog, before.catalog.model_copy(update=trusts))
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return f"a change of {', '.join(changed[:_NAMED])}{more} needs a restart" if changed else ""


def _changes(name: str, before: object, read: object) -> Iterator[str]:
    if before == read:
        return
    if isinstance(before, dict) and isinstance(read, dict):
        yield from (f"{name}.{id_}" for id_ in sorted(before.keys() | read.keys()) if before.get(id_) != read.get(id_))
    elif isinstance(before, tuple) and isinstance(read, tuple):
        yield from _stream_changes({one.id: one for one in before}, {one.id: one for one in read})
    elif isinstance(before, BaseModel) and isinstance(read, BaseModel):
        keys = [key for key in type(before).model_fields if key != "log_level"]
        yield from (f"{name}.{key}" for key in keys if getattr(before, key) != getattr(read, key))


def _stream_changes(before: dict[str, BaseModel], read: dict[str, BaseModel]) -> Iterator[str]:
    for id_ in sorted(before.keys() | read.keys()):
        if id_ in before and id_ in read:
            yield from _changes(f"stream {id_}", before[id_], read[id_])
        else:
            yield f"stream {id_}"
    if before == read:
        yield "the streams' order"
