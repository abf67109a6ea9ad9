"""Table of the view: columns, rows, and the number of rows that fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from agent.watch.screen.shown import text

WIDE: Final = 96
USUAL: Final = 76
NARROW: Final = 60
"""Smallest terminal widths, in characters, at which optional columns are shown."""
_HEADER: Final = "bold underline"


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    from_width: int = 0
    """Smallest terminal width at which the column is shown."""
    give_way: bool = False
    """Cut texts with an ellipsis where the width is too small."""


@dataclass(frozen=True)
class Section:
    """Table of the view: column titles, and as many rows as the terminal's height allows."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]
    least: int
    """Fewest rows shown."""
    most: int
    """Most rows shown."""
    counts_rest: bool = True
    """End with a row that counts the hidden ones."""
    gap: int = 2
    """Space between columns, in characters."""

    @property
    def wanted(self) -> int:
        """Number of rows shown where the height suffices."""
        return min(self.most, len(self.rows))

    def table(self, width: int, room: int | None) -> Table:
        """Return the table with at most `room` rows; None: with all rows."""
        table = Table(box=None, padding=(0, self.gap, 0, 0), pad_edge=False, header_style="")
        kept = [place for place, column in enumerate(self.columns) if width >= column.from_width]
        for place in kept:
            _add_column(table, self.columns[place])
        shown = len(self.rows) if room is None else min(room, len(self.rows))
        is_cut = self.counts_rest and 0 < shown < len(self.rows)
        for row in self.rows[: shown - is_cut]:
            table.add_row(*(row[place] for place in kept))
        if is_cut:
            table.add_row(text(f"+{len(self.rows) - shown + 1} more"))
        return table


def share(sections: Sequence[Section], room: int) -> list[int]:
    """Divide `room` rows among sections: first each one's `least`, then more, in order; return the number of each."""
    given = [min(section.least, section.wanted) for section in sections]
    left = room - sum(given)
    for place, section in enumerate(sections):
        more = min(max(left, 0), section.wanted - given[place])
        given[place] += more
        left -= more
    return given


def _add_column(table: Table, column: Column) -> None:
    table.add_column(
        text(column.title, _HEADER),
        justify="right" if column.right else "left",
        no_wrap=not column.give_way,
        overflow="ellipsis",
    )
