"""Writes a man page for each command of the command line, from its own help: man_pages.py FOLDER DATE."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from agent import __version__
from agent.cli import _commands

_EXIT_CODES = (
    ("0", "good"),
    ("1", "a failure that a retry may cure"),
    ("2", "a mistake in usage or configuration, or no permission"),
    ("3", "could not start"),
)
_RULE = (
    "What reads the configuration of the service needs its rights: run it with sudo. With a configuration of one's "
    "own, and for --help, --version and completion, no command needs any."
)


def main(folder: Path, date: str) -> None:
    """Write the pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    root = click.Context(_commands, info_name="changeover", **_commands.context_settings)
    for context in _walk(root):
        name = context.command_path.replace(" ", "-")
        (folder / f"{name}.1").write_text(_page(context, name, date), encoding="utf-8")


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    for name, command in _children(context):
        yield from _walk(click.Context(command, info_name=name, parent=context))


def _children(context: click.Context) -> list[tuple[str, click.Command]]:
    command = context.command
    commands = command.commands.items() if isinstance(command, click.Group) else ()
    return sorted((name, one) for name, one in commands if not one.hidden)


def _page(context: click.Context, name: str, date: str) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    options = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    commands = [(_page_of(context, child), one.get_short_help_str(200)) for child, one in _children(context)]
    lines = [
        f'.TH "{name.upper()}" "1" "{date}" "changeover {__version__}" "Changeover"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_text(context.command_path)}",
        _text(usage),
        ".SH DESCRIPTION",
        _text(command.help or ""),
        *_section("OPTIONS", [(term, words) for term, words in options if words]),
        *_section("COMMANDS", commands),
        ".SH WHO MAY RUN IT",
        _text(_RULE),
        *_section("EXIT STATUS", _EXIT_CODES),
    ]
    return "\n".join(lines) + "\n"


def _page_of(context: click.Context, child: str) -> str:
    return "-".join([*context.command_path.split(), child]) + "(1)"


def _section(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f".SH {title}"] if rows else []
    for term, words in rows:
        lines += [".TP", f"\\fB{_text(term)}\\fP", _text(words)]
    return lines


def _text(words: str) -> str:
    """Escape for roff: backslashes, dashes that are typed, and dots or quotes that begin a line."""
    escaped = re.sub(r"\s+", " ", words).strip().replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
