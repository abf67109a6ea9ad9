"""What a try found: one line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Finding:
    """`subject` is what was tried; `text` what was seen, and for `fail` what to do. A `note` fails nothing."""

    verdict: Verdict
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5} {self.subject}: {' '.join(self.text.split())}"


Try = Callable[[], Iterable[Finding]]


def ok(subject: str, text: str) -> Finding:
    """Return that it is good."""
    return Finding("ok", subject, text)


def note(subject: str, text: str) -> Finding:
    """Return what is worth knowing, and stops nothing."""
    return Finding("note", subject, text)


def fail(subject: str, text: str) -> Finding:
    """Return that the agent would not do its work, and what to do."""
    return Finding("fail", subject, text)
