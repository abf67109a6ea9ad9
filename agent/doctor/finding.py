"""Finding of one check, printed as one line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Finding:
    """Result of one check; only the verdict `fail` makes doctor fail."""

    verdict: Verdict
    subject: str
    """The checked thing."""
    text: str
    """The observation, and for `fail` what to do."""

    def __str__(self) -> str:
        return f"{self.verdict:<5} {self.subject}: {' '.join(self.text.split())}"


Try = Callable[[], Iterable[Finding]]


def ok(subject: str, text: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding("ok", subject, text)


def note(subject: str, text: str) -> Finding:
    """Return a finding that is worth knowing but does no harm."""
    return Finding("note", subject, text)


def fail(subject: str, text: str) -> Finding:
    """Return a finding that would keep the agent from its work; `text` says what to do."""
    return Finding("fail", subject, text)
