"""Reads configuration and catalog again, while everything runs."""

from agent.app.context import Context
from agent.app.plant import plant_of
from agent.control.events import Reloaded
from agent.messages.errors import MistakeError
from agent.models.catalog import Catalog
from agent.settings import Settings

_FOR_LIFE = ("device", "mqtt", "outbox", "http", "stream")
"""What is built at the start; a change of these needs a restart."""


def read_again(context: Context) -> tuple[Context, Reloaded]:
    """Return what holds from now on: the old context, and what is wrong, where there is a mistake in the new one."""
    if context.reread is None:
        return context, Reloaded(None, "this agent was started without a configuration file")
    try:
        settings = context.reread()
        catalog = Catalog.load(settings.catalog.file)
        if settings.line.keys() != context.settings.line.keys():
            return context, Reloaded(None, "other lines need a restart")
        fresh = Context(_kept(context.settings, settings), catalog, context.boot, context.reread)
        return fresh, Reloaded(plant_of(fresh.settings, catalog, context.boot), _left_out(context.settings, settings))
    except MistakeError as error:
        return context, Reloaded(None, str(error))


def _kept(before: Settings, read: Settings) -> Settings:
    return read.model_copy(update={name: getattr(before, name) for name in _FOR_LIFE})


def _left_out(before: Settings, read: Settings) -> str:
    changed = [name for name in _FOR_LIFE if getattr(before, name) != getattr(read, name)]
    return f"a change of {', '.join(changed)} needs a restart" if changed else ""
