"""Recovery of readable messages from a damaged outbox file."""

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
    """Reader of a damaged outbox file, which skips unreadable parts without an exception."""

    def __init__(self, path: Path, now_s: float) -> None:
        """Open the file; `now_s` (CLOCK_BOOTTIME) replaces arrival times that are unknown or in the future."""
        self._path: Final = path
        self._now_s: Final = now_s
        self._db: sqlite3.Connection | None = None
        with suppress(sqlite3.Error):
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._db.text_factory = bytes
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # no shared memory: see sqlite_store.py

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()

    def held(self, kind: Kind) -> int:
        """Return the number of messages of a kind according to the file; 0 where it is unknown."""
        counts = [0]
        for query in (f"SELECT count(*) FROM {kind.name}", f"SELECT count FROM total WHERE kind = {int(kind)}"):
            with suppress(sqlite3.Error):
                counts += [row[0] for row in self._rows(query) if is_number(row[0]) and isinstance(row[0], int)]
        return max(counts)

    def offset_s(self, boot: str) -> float | None:
        """Return the offset of the file's clock to CLOCK_BOOTTIME; None where it cannot be read.

        `boot`: the kernel's present boot id.
        """
        with suppress(sqlite3.Error):
            rows = self._rows("SELECT elapsed_s, kernel_boot, boottime_s FROM clock")
            if len(rows) == 1 and is_time(rows[0][0]) and is_time(rows[0][2]):
                elapsed_s, kernel_boot, boottime_s = rows[0]
                is_same = kernel_boot == boot.encode() and float(str(boottime_s)) <= self._now_s
                return float(str(elapsed_s)) - (float(str(boottime_s)) if is_same else self._now_s)
        return None

    def entries(self, kind: Kind, base: int, offset_s: float | None) -> Iterator[OutboxItem]:
        """Yield the intact messages of a kind, read from both ends up to the damage.

        `base` and `offset_s` are subtracted from the file's numbers and times; without `offset_s` times are unknown.
        """
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
        """Yield rows by number, descending if `is_back`, until one cannot be read; `behind`: only greater numbers."""
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
    """Return a context manager that opens a damaged file, and closes it after the block."""
    return closing(Salvage(path, now_s))
