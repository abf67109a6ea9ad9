"""The lists of mutants: one-line changes of walls, hashes, ledger, `ready` and outbox that no test may miss."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One change: `old`, which stands once in `file`, becomes `new`; `tests` are to fail then."""

    origin: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, text: str) -> str:
        """Return the changed text of the file. Raises ValueError unless `old` stands in it once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self}: stands {text.count(self.old)} times")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        shown = " ".join(self.old.split())[:60]
        return f"{self.file}: {shown} -> {' '.join(self.new.split())[:60] or 'nothing'}"


def mutants() -> list[Mutant]:
    """Read all lists, in the order of their names."""
    return [
        Mutant(list_.stem, row["file"], row["old"], row["new"], _tests(row))
        for list_ in sorted(Path(__file__).parent.glob("*.toml"))
        for row in tomllib.loads(list_.read_text())["mutant"]
    ]


def _tests(row: dict[str, Any]) -> tuple[str, ...]:
    tests = row["tests"]
    return (tests,) if isinstance(tests, str) else tuple(tests)
