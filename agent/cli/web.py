"""Commands of `changeover web`: who may enter the console, and the tokens of clients."""

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
    """Manage who may enter what `[web]` serves."""


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
    is_new = users.add(name, role, _password())
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


@web.command()
@click.argument("client")
@config_option
def token(client: str, config: Path | None) -> None:
    """Make a new token for CLIENT, print it once, and keep its hash alone in the client's token_file."""
    from agent.web.gateway.core.clients import new_token

    found = next((one for one in settings_of(config).web.client if one.name == client), None)
    if found is None or found.token_file is None:
        raise MistakeError(f"found {client!r}, expected the name of a [[web.client]] with a token_file")
    try:
        made = new_token(found.token_file)
    except OSError as error:
        raise MistakeError(f"{found.token_file}: {error.strerror}; is it writable for this user?") from None
    click.echo(made)
    click.echo(
        f"{found.token_file} has its hash; it lets {client} in from the next start on, and no former one", err=True
    )


def _password() -> str:
    """Return the password that is typed, or the first line of standard input. Raises MistakeError."""
    if sys.stdin is None:  # it is closed
        raise MistakeError("found no standard input, expected the password on it")
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:  # as bytes, because the language of a script's environment must not change what they mean
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise MistakeError("found a password that is no UTF-8 on standard input") from None


def _users(config: Path | None) -> "Users":
    from agent.web.console.access.users import Users

    return Users(settings_of(config).device.state_dir)
