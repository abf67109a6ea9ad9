"""Options and parameters that several commands share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agent.messages.references import ModelReference
    from agent.settings import Settings

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, readable=False, path_type=Path),
    help="Else $CHANGEOVER_CONFIG, /etc/changeover/changeover.toml (which needs sudo), config/changeover.toml.",
)


def _class_names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


classes_option = click.option(
    "--classes",
    metavar="NAME,NAME",
    callback=_class_names,
    help="The classes' names in their order; needed where FILE has none.",
)
rank_option = click.option(
    "--rank", type=float, help="The order of a variant that is not n, s, m, l or x (these are 1 to 5)."
)


def settings_of(config: Path | None) -> "Settings":
    """Load the settings that a command was given. Raises SettingsError with every mistake in them."""
    from agent.settings import load

    return load(config, os.environ)


def reference(_context: click.Context, _parameter: click.Parameter, value: str | None) -> "ModelReference | None":
    """Parse a command's REF. Raises BadParameter."""
    from agent.messages.references import ModelReference

    found = ModelReference.parse(value) if value is not None else None
    if value is not None and found is None:
        raise click.BadParameter(f"found {value!r}, expected NAME[:VARIANT][@VERSION]")
    return found
