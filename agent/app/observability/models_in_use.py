"""List of the model files in use, which commands that delete files of the store read."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.control.state import Line, State
from agent.health.interval_timer import IntervalTimer
from agent.models.keeping.in_use import NAME, encoded

_INTERVAL_S: Final = 2.0


class ModelsInUse:
    """Keeper of the list in `state_dir`, for the loop's thread; `write` is called where it has changed."""

    def __init__(self, state: State, state_dir: Path, write: Callable[[Path, bytes], None]) -> None:
        self._state: Final = state
        self._file: Final = state_dir / NAME
        self._write: Final = write
        self._written = b""
        self._timer: Final = IntervalTimer(_INTERVAL_S)

    def tick(self, now_s: float) -> None:
        """Write the list where it has changed, at most every 2 s."""
        if not self._timer.is_due(now_s):
            return
        uses: dict[str, str] = {}
        for path, use in self._uses():
            uses.setdefault(path, use)
        data = encoded(uses)
        if data != self._written:
            self._written = data
            self._write(self._file, data)

    def _uses(self) -> Iterator[tuple[str, str]]:
        for line in self._state.lines.values():
            yield from self._of_line(line)
        job = self._state.orders.job
        if job is not None:
            for version in self._state.plant.supply.versions(job.entries):
                yield version.path, f"ordered by {job.id}"

    def _of_line(self, line: Line) -> Iterator[tuple[str, str]]:
        assigned = line.assignment
        for version in (assigned.settled, assigned.target, *assigned.unconfirmed):
            if version is not None:
                yield version.path, f"active on {line.id}"
        for preparation in line.preloads.preparations:
            yield preparation.model.path, f"reserved for {line.id}"
        if (compared := line.comparison) is not None and not compared.is_over:
            for version in self._state.plant.models:
                if version.reference == compared.candidate:
                    yield version.path, f"compared on {line.id}"
        named = {
            *line.selection.history,
            *([str(line.selection.rollback.reference)] if line.selection.rollback else []),
        }
        for version in self._state.plant.models:
            if version.reference in named:
                yield version.path, f"previous on {line.id}"
