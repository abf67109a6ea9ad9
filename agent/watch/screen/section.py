"""A part of the view: columns, rows, and how many of them there is room for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from agent.watch.screen.shown import text

WIDE: Final = 96
USUAL: Final = 76
NARROW: Final = 60
"""Widths of a terminal from which on columns are shown that can be done without."""
_HEADER: Final = "bold underline"


@dataclass(frozen=True)
class Column:
    """One column, shown from a width on. Those that `give_way` are cut with an ellipsis where it does not suffice."""

    title: str
    right: bool = False
    from_width: int = 0
    give_way: bool = False


@dataclass(frozen=True)
class Section:
    """Rows below a line of titles. `least` and `most` bound the rows that are shown where the height is limited.

    With `counts_rest`, the last row then says how many are left out. `gap` is the space between columns.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]
    least: int
    most: int
    counts_rest: bool = True
    gap: int = 2

    @property
    def wanted(self) -> int:
        """How many rows it would show."""
        return min(self.most, len(self.rows))

    def table(self, width: int, room: int | None) -> Table:
        """Return it with at most `room` rows below the titles; None: with all of them."""
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
    """Divide `room` rows: each section's least first, then what it wants, in order."""
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
