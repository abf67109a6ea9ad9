"""Keeps records of the models that serve each line, and of their comparisons, in the state folder."""

import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent.app.outbound.event_log import tell_end
from agent.control.canary.telling import payload
from agent.control.comparisons.comparison import Comparison
from agent.control.state import Line, State
from agent.messages.canary import COMPARISONS
from agent.messages.payloads import Switch
from agent.messages.records import MOST_RECORDS, SERVED, ComparisonRecord, Served
from agent.messages.texts.utc import utc_text

_log: Final = logging.getLogger(__name__)
_WRITE_S: Final = 2.0
_COMPARISON_S: Final = 10.0

Write = Callable[[Path, bytes], None]


class Records:
    """Keeper of both, for the loop's thread; it polls the state at each tick, and writes whole files by `write`."""

    def __init__(self, state: State, state_dir: Path, write: Write, unix_s: Callable[[], float] = time.time) -> None:
        self._state: Final = state
        self._served: Final = state_dir / SERVED
        self._comparisons: Final = state_dir / COMPARISONS
        self._write: Final = write
        self._unix_s: Final = unix_s
        self._records: Final[dict[str, deque[Served]]] = {}
        self._models: Final[dict[str, str | None]] = {}
        self._unwritten: Final[set[str]] = set()
        self._latest: Final[dict[str, Comparison | None]] = {}
        self._write_at_s = 0.0
        self._compare_at_s = 0.0

    def _start(self) -> None:
        """Read the records from before a restart, and record that no model serves yet."""
        try:
            self._served.mkdir(parents=True, exist_ok=True)
            self._comparisons.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _log.warning("event=records_not_kept folder=%s detail=%r", self._served, str(error))
        for line in self._state.lines.values():
            kept = read_served(self._served / f"{line.id}.json")
            self._records[line.id] = deque(kept, MOST_RECORDS)
            self._models[line.id] = None
            if kept and kept[-1].model is not None:
                self._add(line, Served(self._now(), "serves", None, boot=self._state.plant.boot))
            self._latest[line.id] = line.comparison

    def switched(self, switch: Switch) -> None:
        """Record a change that failed; one that succeeded is seen by the model that serves."""
        line = self._state.lines[switch.line]
        if not self._models:
            self._start()
        if switch.result in {"switched", "superseded"} or switch.cause.rule == "canary":
            return
        record = Served(
            at=self._now(),
            what="change",
            model=switch.to,
            product=switch.product,
            cause=switch.cause,
            before=switch.from_,
            result=switch.result,
            reason=switch.reason,
            detail=switch.detail,
        )
        self._add(line, record)

    def compared(self, line_id: str, one: Comparison) -> None:
        """Record a comparison that has ended, before what its end brings about."""
        line = self._state.lines[line_id]
        if not self._models:
            self._start()
        self._write_comparison(line, one)
        tell_end(line_id, one)
        detail = f"{one.mode}, {one.counts.frames} frames compared"
        detail += f": {one.end_detail}" if one.end_detail else ""
        record = Served(
            at=one.ended_at or self._now(),
            what="comparison",
            model=one.candidate,
            product=one.product,
            before=one.stable,
            result=one.result,
            reason=one.end_reason,
            detail=detail,
        )
        self._add(line, record)

    def tick(self, now_s: float) -> None:
        """Record what has changed, and write it at most every 2 s; `now_s` is monotonic."""
        if not self._models:
            self._start()
        for line in self._state.lines.values():
            if line.serving.model != self._models[line.id]:
                self._serves(line)
            if line.comparison is not None and line.comparison is not self._latest[line.id]:
                self._latest[line.id] = line.comparison
                self._write_comparison(line, line.comparison)
        if now_s >= self._compare_at_s:
            self._compare_at_s = now_s + _COMPARISON_S
            for line in self._state.lines.values():
                if line.comparison is not None and not line.comparison.is_over:
                    self._write_comparison(line, line.comparison)
        if self._unwritten and now_s >= self._write_at_s:
            self._write_at_s = now_s + _WRITE_S
            self.flush()

    def flush(self) -> None:
        """Write all records that are not written yet."""
        for line in sorted(self._unwritten):
            self._write(self._served / f"{line}.json", msgspec.json.encode(list(self._records[line])))
        self._unwritten.clear()

    def _serves(self, line: Line) -> None:
        before, self._models[line.id] = self._models[line.id], line.serving.model
        cause = line.assignment.cause if line.serving.model is not None else None
        record = Served(self._now(), "serves", line.serving.model, line.selection.product, cause, before)
        self._add(line, record)

    def _add(self, line: Line, record: Served) -> None:
        self._records[line.id].append(record)
        self._unwritten.add(line.id)

    def _write_comparison(self, line: Line, one: Comparison) -> None:
        record = ComparisonRecord(payload(self._state, line, one), one.counts)
        self._write(self._comparisons / f"{line.id}.json", msgspec.json.encode(record))

    def _now(self) -> str:
        return utc_text(self._unix_s())


def read_served(path: Path) -> list[Served]:
    """Read a line's records; none where the file is missing or unreadable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Served])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
