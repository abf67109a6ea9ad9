"""Commands of `changeover web`: who may enter the console."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, settings_of
from agent.messages.errors import MistakeError

if TYPE_CHECKING:
    from agent.web.console.access.users import Role, Users


@click.group()
def web() -> None:
    """Manage the console that `[web] bind` serves."""


@web.group()
def user() -> None:
    """Add, list and remove the console's users; there is none at first, and no default password."""


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), required=True, help="What the user may do.")
@config_option
def add(name: str, role: "Role", config: Path | None) -> None:
    """Add NAME, or give it a new role and password, which is asked for or read from standard input."""
    users = _users(config)
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    is_new = users.add(name, role, password)
    click.echo(f"{name} is {role}" + ("" if is_new else "; the password is new, and open sessions have ended"))


@user.command(name="list")
@config_option
def list_users(config: Path | None) -> None:
    """Print each user and role."""
    for one in _users(config).all().values():
        click.echo(f"{one.name}  {one.role}")


@user.command()
@click.argument("name")
@config_option
def remove(name: str, config: Path | None) -> None:
    """Remove NAME, whose open sessions end."""
    if not _users(config).remove(name):
        raise MistakeError(f"no user {name!r}: see `changeover web user list`")
    click.echo(f"{name} is removed")


def _users(config: Path | None) -> "Users":
    from agent.web.console.access.users import Users

    return Users(settings_of(config).device.state_dir)
