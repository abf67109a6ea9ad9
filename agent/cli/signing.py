"""Options of the commands that sign: key folders and passwords, from a file or asked for at the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from agent.cli.options import FILE
from agent.messages.errors import MistakeError

password_option = click.option(
    "--password-file", type=FILE, help="A file with the password of the keys; else you are asked for it."
)
keys_option = click.option(
    "--keys",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the secret keys, which stays on this machine.",
)


def asker(password_file: Path | None) -> Callable[[str], str]:
    """Return what gives the password of the key that its argument names. Raises MistakeError without a terminal."""

    def ask(name: str) -> str:
        if password_file is not None:
            return password_file.read_text(encoding="utf-8").rstrip("\n")
        try:
            return str(click.prompt(f"Password of {name}", hide_input=True, err=True))
        except click.Abort:
            raise MistakeError(f"{name} has a password: give it, or --password-file") from None

    return ask


def new_password(password_file: Path | None, *, is_wanted: bool) -> Callable[[str], str | None]:
    """Return what gives the password of a new key; None where none is wanted."""

    def ask(name: str) -> str | None:
        if password_file is not None:
            return password_file.read_text(encoding="utf-8").rstrip("\n")
        if not is_wanted:
            return None
        return str(click.prompt(f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True))

    return ask


@contextmanager
def needs_extra() -> Iterator[None]:
    """Say what to install where an import in the block fails. Raises MistakeError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MistakeError(f"{error.name} is not installed: pip install 'changeover[supply]'") from None
