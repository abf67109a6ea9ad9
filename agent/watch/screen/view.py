"""Layout of a board on the screen: sections below each other, within the height.

Colours: green ready, yellow switching or degraded, red fault or stalled; each is also said in a word.
"""

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from agent.watch.board.rows import Snapshot
from agent.watch.screen import tables
from agent.watch.screen.section import Section, share


class View:
    """Drawing of a board for rich; it fits the given height, and shows every row where there is none."""

    def __init__(self, board: Snapshot) -> None:
        self._board = board

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the sections from the top down."""
        yield from _parts(self._board, options.max_width, options.height)


def _parts(board: Snapshot, width: int, height: int | None) -> list[RenderableType]:
    away = tables.away(board.broker)
    top: list[RenderableType] = [tables.header(board, width), *([away] if away else [])]
    # in the order in which rows are granted, alerts first because they tell of trouble
    sections = [tables.alerts(board.alerts), tables.lines(board.lines), tables.streams(board.streams)]
    sections += [tables.models(board.memory), tables.changeovers(board.changeovers)]
    sections += [tables.refused(board.refused)] if board.refused else []
    sections += [tables.jobs(board.jobs)] if board.jobs else []
    fixed = len(top) + len(sections) + 2
    rooms, is_airy = _rooms(sections, height, fixed)
    drawn = [section.table(width, room) for section, room in zip(sections, rooms, strict=True)]
    alerts, lines, streams, models, changeovers, *rest = drawn
    refused, jobs = (rest[:1], rest[1:]) if board.refused else ([], rest)
    memory: list[RenderableType] = [
        tables.budget(board.memory, board.processes),
        models,
        tables.processes(board.processes),
    ]
    blocks: list[list[RenderableType]] = [
        top,
        [alerts],
        *[list[RenderableType]([table]) for table in refused],
        [lines],
        [streams],
        *[list[RenderableType]([table]) for table in jobs],
        memory,
        [changeovers],
    ]
    return _spaced(blocks, is_airy=is_airy)


def _rooms(sections: list[Section], height: int | None, fixed: int) -> tuple[list[int | None], bool]:
    """Return each section's number of rows (None: all), and whether blank lines fit between sections."""
    if height is None:
        return [None] * len(sections), True
    blanks = len(sections)
    least = sum(min(section.least, section.wanted) for section in sections)
    is_airy = height >= fixed + blanks + least
    return list(share(sections, height - fixed - (blanks if is_airy else 0))), is_airy


def _spaced(blocks: list[list[RenderableType]], *, is_airy: bool) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for place, block in enumerate(blocks):
        if place and is_airy:
            parts.append(Text())
        parts.extend(block)
    return parts
