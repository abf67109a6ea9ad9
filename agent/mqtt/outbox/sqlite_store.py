"""The outbox's file: an SQLite database in WAL mode, used by one thread at a time."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.damage import DamagedError, check_tables, is_number, is_time, is_topic, sound
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem, State

_VERSION: Final = 1
_CHUNK: Final = 256
_SET_ASIDE: Final = 3
"""Limit of damaged files that are kept, because a dying disk must not fill itself with them."""
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_VACUUM_PAGES: Final = 256
_COUNTED: Final = 20_000
_SETTINGS: Final = (
    "PRAGMA locking_mode=EXCLUSIVE",  # because only one agent uses the file, and lost shared memory would raise SIGBUS
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA cache_size=-1024",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=4194304",
)


@dataclass(frozen=True)
class Bounds:
    """Bounds of the outbox: bytes of all kinds of messages together, and age in seconds."""

    max_bytes: int
    max_age_s: float


@dataclass(frozen=True)
class Total:
    """Number and size of the messages of one kind on disk."""

    count: int = 0
    size_bytes: int = 0


def kernel_moment() -> tuple[str, float]:
    """Return the kernel's boot id, and the seconds since that boot, sleep included."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


class SqliteStore:
    """Messages on disk, by kind and number.

    Methods raise sqlite3.OperationalError for a temporary failure of the disk, and another sqlite3.DatabaseError for a
    damaged file.

    Times in arguments and results are of CLOCK_BOOTTIME. The file uses its own clock, which follows the kernel's and
    stands still while the device is off. `base` is added to items' numbers in the file; None: the file's largest
    number.
    """

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        base: int | None = None,
        moment: Callable[[], tuple[str, float]] = kernel_moment,
    ) -> None:
        self.dropped: Final[dict[Kind, int]] = dict.fromkeys(Kind, 0)
        self._bounds: Final = bounds
        self._moment: Final = moment
        _look_before(path)
        if not path.exists():
            _make(path, moment)
        self._db: Final = _connect(path)
        try:
            with sound():
                self._check_version()
                self.totals = self._read_totals()
                self._offset_s: Final = self._read_clock()
                self.base: Final = self._largest() if base is None else base
        except sqlite3.Error:
            self._db.close()
            raise

    def write(self, entries: Iterable[OutboxItem], done: Mapping[Kind, Iterable[int]], *, sync: bool) -> None:
        """Add `entries`, delete `done` and apply the bounds in one transaction.

        The result survives the process, and with `sync` also a loss of power, together with all earlier writes.
        """
        self._db.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        totals, dropped = dict(self.totals), dict(self.dropped)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            with sound():
                for kind, numbers in done.items():
                    self._forget(kind, numbers, totals)
            for entry in entries:
                self._insert(entry, totals)
            with sound():
                self._trim(totals, dropped)
                self._write_state(totals)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self.totals = totals
        self.dropped.update(dropped)
        self._shrink()

    def read(self, kind: Kind, after: int, limit: int) -> list[OutboxItem]:
        """Return the first messages of a kind with numbers greater than `after`, in order."""
        rows = self._db.execute(
            f"SELECT number, kept_s, topic, payload, correlation FROM {_table(kind)}"
            " WHERE number > ? ORDER BY number LIMIT ?",
            (after + self.base, limit),
        ).fetchall()
        return [self._entry(kind, row) for row in rows]

    def oldest_kept_s(self) -> float | None:
        """Return the arrival time of the oldest message; None without one."""
        query = " UNION ALL ".join(
            f"SELECT * FROM (SELECT kept_s FROM {_table(kind)} ORDER BY number LIMIT 1)" for kind in Kind
        )
        (oldest,) = self._db.execute(f"SELECT min(kept_s) FROM ({query})").fetchone()
        with sound():
            return None if oldest is None else float(oldest) - self._offset_s

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _entry(self, kind: Kind, row: tuple[Any, ...]) -> OutboxItem:
        number, kept_s, topic, payload, correlation = row
        is_whole = isinstance(payload, bytes) and isinstance(correlation, (bytes, type(None)))
        if not (is_number(number) and is_time(kept_s) and is_topic(topic) and is_whole):
            raise DamagedError(f"message {number} of {_table(kind)} is none")
        message = OutgoingMessage(topic, payload, correlation=correlation)
        return OutboxItem(number - self.base, kind, message, kept_s - self._offset_s, State.STORED)

    def _check_version(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise DamagedError(f"version {version} of the outbox's file is not known here")
        check_tables(self._db)

    def _read_totals(self) -> dict[Kind, Total]:
        rows = self._db.execute("SELECT kind, count, bytes FROM total").fetchall()
        totals = {Kind(kind): Total(count, size_bytes) for kind, count, size_bytes in rows}
        for kind in Kind:
            total = totals[kind]
            if not (is_number(total.count) and is_number(total.size_bytes)) or min(total.count, total.size_bytes) < 0:
                raise DamagedError(f"the total of {_table(kind)} is {total.count!r}, {total.size_bytes!r} bytes")
            if self._count(kind) != min(total.count, _COUNTED):
                raise DamagedError(f"the total of {_table(kind)} says {total.count}, and there are others")
        return totals

    def _count(self, kind: Kind) -> int:
        """Count messages up to a limit, because counting a large file takes seconds."""
        query = f"SELECT count(*) FROM (SELECT 1 FROM {_table(kind)} LIMIT {_COUNTED})"
        return int(self._db.execute(query).fetchone()[0])

    def _read_clock(self) -> float:
        rows = self._db.execute("SELECT elapsed_s, kernel_boot, boottime_s FROM clock").fetchall()
        if len(rows) != 1 or not (is_time(rows[0][0]) and is_time(rows[0][2])):
            raise DamagedError(f"the outbox's clock says {rows!r}"[:200])
        elapsed_s, kernel_boot, boottime_s = rows[0]
        boot, now_s = self._moment()
        return float(elapsed_s - (boottime_s if boot == kernel_boot and boottime_s <= now_s else now_s))

    def _largest(self) -> int:
        rows = [self._db.execute(f"SELECT min(number), max(number) FROM {_table(kind)}").fetchone() for kind in Kind]
        numbers = [number for row in rows for number in row if number is not None]
        if not all(map(is_number, numbers)):
            raise DamagedError(f"a message has the number {max(numbers, key=abs)}")
        return max(numbers, default=0)

    def _insert(self, entry: OutboxItem, totals: dict[Kind, Total]) -> None:
        message = entry.message
        added = self._db.execute(
            f"INSERT OR IGNORE INTO {_table(entry.kind)} VALUES (?, ?, ?, ?, ?, ?)",
            (
                entry.number + self.base,
                entry.kept_s + self._offset_s,
                entry.size_bytes,
                message.topic,
                message.payload,
                message.correlation,
            ),
        )
        if added.rowcount:
            totals[entry.kind] = _plus(totals[entry.kind], 1, entry.size_bytes)

    def _forget(self, kind: Kind, numbers: Iterable[int], totals: dict[Kind, Total]) -> None:
        for number in numbers:
            rows = self._db.execute(
                f"DELETE FROM {_table(kind)} WHERE number = ? RETURNING size", (number + self.base,)
            ).fetchall()
            for (size_bytes,) in rows:
                totals[kind] = _plus(totals[kind], -1, -size_bytes)

    def _trim(self, totals: dict[Kind, Total], dropped: dict[Kind, int]) -> None:
        too_old_s = self._moment()[1] + self._offset_s - self._bounds.max_age_s
        for kind in reversed(Kind):
            while totals[kind].count:
                over_bytes = sum(total.size_bytes for total in totals.values()) - self._bounds.max_bytes
                gone = self._drop_oldest(kind, over_bytes, too_old_s)
                if not gone.count:
                    break
                totals[kind] = _plus(totals[kind], -gone.count, -gone.size_bytes)
                dropped[kind] += gone.count

    def _drop_oldest(self, kind: Kind, over_bytes: int, too_old_s: float) -> Total:
        rows = self._db.execute(
            f"SELECT number, size, kept_s FROM {_table(kind)} ORDER BY number LIMIT ?", (_CHUNK,)
        ).fetchall()
        last, gone = 0, Total()
        for number, size_bytes, kept_s in rows:
            if gone.size_bytes >= over_bytes and kept_s >= too_old_s:
                break
            last, gone = number, _plus(gone, 1, size_bytes)
        if gone.count:
            self._db.execute(f"DELETE FROM {_table(kind)} WHERE number <= ?", (last,))
        return gone

    def _write_state(self, totals: Mapping[Kind, Total]) -> None:
        for kind, total in totals.items():
            if total != self.totals[kind]:
                self._db.execute(
                    "UPDATE total SET count = ?, bytes = ? WHERE kind = ?", (total.count, total.size_bytes, int(kind))
                )
        boot, now_s = self._moment()
        self._db.execute(
            "UPDATE clock SET elapsed_s = ?, kernel_boot = ?, boottime_s = ?", (now_s + self._offset_s, boot, now_s)
        )

    def _shrink(self) -> None:
        """Return free space to the disk once the outbox is empty; before that it will be reused."""
        if any(total.count for total in self.totals.values()):
            return
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        if free > _VACUUM_PAGES:
            # because execute() would free only one page
            self._db.executescript("PRAGMA incremental_vacuum")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            db.execute(setting).fetchall()
        db.execute("PRAGMA journal_mode=WAL").fetchall()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _look_before(path: Path) -> None:
    """Raise DamagedError for an empty file or a log without its file, which SQLite would replace by a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = Path(f"{path}-wal")
    if path.exists() and not path.stat().st_size:
        raise DamagedError("the file is empty: what it held is lost")
    if not path.exists() and log.exists() and log.stat().st_size:
        raise DamagedError("the file is gone, and its log is there: what it held is lost")


def _make(path: Path, moment: Callable[[], tuple[str, float]]) -> None:
    """Create a private file with its tables, atomically."""
    draft = draft_of(path)
    remove(draft)
    draft.touch(mode=0o600)
    db = _connect(draft)
    try:
        _make_tables(db, moment)
    finally:
        db.close()
    draft.replace(path)


def _make_tables(db: sqlite3.Connection, moment: Callable[[], tuple[str, float]]) -> None:
    boot, now_s = moment()
    db.execute("BEGIN IMMEDIATE")
    for kind in Kind:
        db.execute(
            f"CREATE TABLE {_table(kind)} (number INTEGER PRIMARY KEY, kept_s REAL NOT NULL, size INTEGER NOT NULL,"
            " topic TEXT NOT NULL, payload BLOB NOT NULL, correlation BLOB)"
        )
    db.execute("CREATE TABLE total (kind INTEGER PRIMARY KEY, count INTEGER NOT NULL, bytes INTEGER NOT NULL)")
    for kind in Kind:
        db.execute(f"INSERT INTO total VALUES ({int(kind)}, 0, 0)")
    db.execute("CREATE TABLE clock (elapsed_s REAL NOT NULL, kernel_boot TEXT NOT NULL, boottime_s REAL NOT NULL)")
    db.execute("INSERT INTO clock VALUES (0, ?, ?)", (boot, now_s))
    db.execute(f"PRAGMA user_version={_VERSION}")
    db.execute("COMMIT")


def draft_of(path: Path) -> Path:
    """Return the path of the temporary file for `path`."""
    return path.with_name(f"{path.stem}.new{path.suffix}")


def remove(path: Path) -> None:
    """Remove a database file with SQLite's companions. Raises OSError where one cannot be removed."""
    for suffix in _SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file and return its new path; the oldest of too many is removed. Raises OSError if it cannot."""
    names = [path.with_name(f"{path.stem}.damaged-{number}{path.suffix}") for number in range(1, _SET_ASIDE + 1)]
    name = next((name for name in names if not name.exists()), None)
    if name is None:
        name = min(names, key=lambda one: one.stat().st_mtime)
    for suffix in _SUFFIXES:
        old, new = Path(f"{path}{suffix}"), Path(f"{name}{suffix}")
        new.unlink(missing_ok=True)
        if old.exists():
            old.replace(new)
    return name


def _table(kind: Kind) -> str:
    return kind.name.lower()


def _plus(total: Total, count: int, size_bytes: int) -> Total:
    return Total(total.count + count, total.size_bytes + size_bytes)
