"""A page of the documentation as a story of commands and of what they bring."""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- test: (.*?) -->$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of the shell, or an `event` that the test brings about; and the lines that the page shows below it."""

    command: str = ""
    shown: tuple[str, ...] = ()
    event: str = ""


def steps(page: Path) -> list[Step]:
    """Return the page's steps, in its order."""
    found = blocks(page)
    told: list[Step] = []
    for place, (kind, text) in enumerate(found):
        after = found[place + 1] if place + 1 < len(found) else ("", "")
        shown = tuple(after[1].splitlines()) if after[0] == "text" else ()
        if kind == "event":
            told.append(Step(event=text, shown=shown))
        elif kind == "sh":
            told.append(Step(command=text, shown=shown))
    return told


def toml(page: Path) -> str:
    """Return the page's first block of TOML."""
    return next(text for kind, text in blocks(page) if kind == "toml")


def matches(shown: str, said: str) -> bool:
    """Return True where a line is as the page shows it; `...` stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in shown.split("...")), said) is not None


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the page's fenced blocks, each with its language; and what a test is to do, as `event`."""
    found = (match.groups() for match in _FENCE.finditer(page.read_text(encoding="utf-8")))
    return [("event", event) if event else (kind, text) for kind, text, event in found]
