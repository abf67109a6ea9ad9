"""Takes out of a damaged outbox what can still be read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.damage import is_number, is_time, is_topic
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem

_CHUNK: Final = 64
_Row = tuple[object, ...]


class Salvage:
    """A damaged file, opened to be read. Methods raise nothing: what cannot be read is left out."""

    def __init__(self, path: Path, now_s: float) -> None:
        """`now_s` is when messages came of which the file cannot tell, and the latest that any can have come."""
        self._path: Final = path
        self._now_s: Final = now_s
        self._db: sqlite3.Connection | None = None
        with suppress(sqlite3.Error):
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._db.text_factory = bytes
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # no shared memory: see store.py

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()

    def held(self, kind: Kind) -> int:
        """Return how many messages of a class it held, as far as it says; 0 where it says nothing."""
        counts = [0]
        for query in (f"SELECT count(*) FROM {kind.name}", f"SELECT count FROM total WHERE kind = {int(kind)}"):
            with suppress(sqlite3.Error):
                counts += [row[0] for row in self._rows(query) if is_number(row[0]) and isinstance(row[0], int)]
        return max(counts)

    def offset_s(self, boot: str) -> float | None:
        """Return what its clock is ahead of CLOCK_BOOTTIME; None where that is lost."""
        with suppress(sqlite3.Error):
            rows = self._rows("SELECT elapsed_s, kernel_boot, boottime_s FROM clock")
            if len(rows) == 1 and is_time(rows[0][0]) and is_time(rows[0][2]):
                elapsed_s, kernel_boot, boottime_s = rows[0]
                is_same = kernel_boot == boot.encode() and float(str(boottime_s)) <= self._now_s
                return float(str(elapsed_s)) - (float(str(boottime_s)) if is_same else self._now_s)
        return None

    def entries(self, kind: Kind, base: int, offset_s: float | None) -> Iterator[OutboxItem]:
        """Yield the messages of a class that are whole: up to the damage, and from behind it back to there."""
        last: int | None = None
        for row in self._walk(kind, behind=None, is_back=False):
            last = row[0] if isinstance(row[0], int) else last
            yield from self._entry(kind, row, base, offset_s)
        behind = [
            entry
            for row in self._walk(kind, behind=last, is_back=True)
            for entry in self._entry(kind, row, base, offset_s)
        ]
        yield from reversed(behind)

    def _walk(self, kind: Kind, *, behind: int | None, is_back: bool) -> Iterator[_Row]:
        """Yield rows in one direction until they cannot be read; `behind`: only those with a greater number."""
        order, sign = ("DESC", "<") if is_back else ("ASC", ">")
        limit, at = _CHUNK, None
        while True:
            bounds = [f"number {sign} {at}"] if at is not None else []
            bounds += [f"number > {behind}"] if behind is not None else []
            where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
            query = (
                f"SELECT number, kept_s, topic, payload, correlation FROM {kind.name}{where}"
                f" ORDER BY number {order} LIMIT {limit}"
            )
            try:
                rows = self._rows(query)
            except sqlite3.Error:
                if limit == 1:
                    return
                limit = 1
                continue
            for row in rows:
                if not isinstance(row[0], int) or (at is not None and (row[0] >= at if is_back else row[0] <= at)):
                    return
                at = row[0]
                yield row
            if not rows:
                return

    def _rows(self, query: str) -> list[_Row]:
        return self._db.execute(query).fetchall() if self._db is not None else []

    def _entry(self, kind: Kind, row: _Row, base: int, offset_s: float | None) -> Iterator[OutboxItem]:
        number, kept_s, topic, payload, correlation = row
        text = topic.decode(errors="surrogateescape") if isinstance(topic, bytes) else None
        is_whole = isinstance(payload, bytes) and isinstance(correlation, (bytes, type(None)))
        if not (isinstance(number, int) and is_number(number) and is_topic(text) and is_whole):
            return
        came_s = float(str(kept_s)) - offset_s if offset_s is not None and is_time(kept_s) else self._now_s
        assert isinstance(text, str)
        assert isinstance(payload, bytes)
        assert correlation is None or isinstance(correlation, bytes)
        message = OutgoingMessage(text, payload, correlation=correlation)
        yield OutboxItem(number - base, kind, message, min(came_s, self._now_s))


def salvaged(path: Path, now_s: float) -> "closing[Salvage]":
    """Open a damaged file, for a `with` statement."""
    return closing(Salvage(path, now_s))
