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
