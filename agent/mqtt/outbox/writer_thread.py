"""Thread that owns the outbox's file, so that a slow disk delays nothing else."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from agent.mqtt.outbox.damage import is_damage
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.outbox.salvage import salvaged
from agent.mqtt.outbox.sqlite_store import Bounds, SqliteStore, Total, draft_of, kernel_moment, remove, set_aside

SYNC_S: Final = 1.0
"""Age up to which written messages may be lost with the power; events are synced when they are written."""
RETRY_S: Final = 5.0
_GATHER_S: Final = 0.01
"""Time for which writes are gathered before one commit."""
_EXPIRE_S: Final = 30.0
_STOP_S: Final = 10.0
_SALVAGED: Final = 256
"""Number of salvaged messages that are written in one transaction."""
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiskState:
    """State of the outbox's file."""

    trouble: str | None = None
    """The reason why writes fail now; None while they succeed."""
    damaged: str | None = None
    """The damage of a file that was set aside; None without one."""
    totals: dict[Kind, Total] = field(default_factory=dict)
    dropped: dict[Kind, int] = field(default_factory=dict)
    oldest_kept_s: float | None = None


@dataclass(frozen=True)
class Done:
    """Result of a batch: `entries` are on disk (unless `failed`), and the numbers in `forgotten` are deleted."""

    entries: list[OutboxItem]
    forgotten: dict[Kind, set[int]]
    failed: bool
    state: DiskState


@dataclass(frozen=True)
class Fetched:
    """Messages that were read for a call of `fetch`."""

    kind: Kind
    asked: int
    entries: list[OutboxItem]
    is_end: bool
    """True where the disk holds no messages after these."""


WriterAnswer = Done | Fetched


@dataclass
class _Mailbox:
    entries: dict[int, OutboxItem] = field(default_factory=dict)
    done: dict[Kind, set[int]] = field(default_factory=lambda: {kind: set() for kind in Kind})
    fetches: dict[Kind, tuple[int, int, int]] = field(default_factory=dict)
    stop: bool = False

    @property
    def has_writes(self) -> bool:
        return bool(self.entries) or any(self.done.values())


class WriterThread:
    """Thread that writes, deletes and reads, and calls `tell` with the results.

    Its owner bounds what it queues: a batch is written whole, or is reported as failed. A message deleted before it was
    written never reaches the disk.
    """

    def __init__(
        self, path: Path, bounds: Bounds, tell: Callable[[WriterAnswer], None], retry_s: float = RETRY_S
    ) -> None:
        self._path: Final = path
        self._bounds: Final = bounds
        self._tell: Final = tell
        self._retry_s: Final = retry_s
        self._wake: Final = threading.Condition()
        self._mail = _Mailbox()
        self._thread: Final = threading.Thread(target=self._run, name="keeper", daemon=True)
        # used on the thread only
        self._store: SqliteStore | None = None
        self._base: int | None = None
        self._undone: Final[dict[Kind, set[int]]] = {kind: set() for kind in Kind}
        self._dropped: Final = dict.fromkeys(Kind, 0)
        self._trouble: str | None = None
        self._damaged: str | None = None
        self._is_dirty = False
        self._owed: list[OutboxItem] = []
        self._synced_s = self._expired_s = -_EXPIRE_S
        self._try_at_s = 0.0

    def start(self) -> None:
        """Start the thread, which opens the file."""
        self._thread.start()

    def stop(self) -> bool:
        """Write the queued messages and end; False where a slow disk takes more than 10 s."""
        with self._wake:
            self._mail.stop = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        return not self._thread.is_alive()

    def write(self, entry: OutboxItem) -> None:
        """Queue a message for the disk."""
        with self._wake:
            self._mail.entries[entry.number] = entry
            self._wake.notify()

    def forget(self, entry: OutboxItem) -> bool:
        """Queue a deletion; return False for a message that was not written yet, which then never is."""
        with self._wake:
            if self._mail.entries.pop(entry.number, None) is not None:
                return False
            self._mail.done[entry.kind].add(entry.number)
            self._wake.notify()
            return True

    def fetch(self, kind: Kind, after: int, limit: int, asked: int) -> None:
        """Read up to `limit` messages with numbers above `after`; `asked` is returned with the answer."""
        with self._wake:
            self._mail.fetches[kind] = (after, limit, asked)
            self._wake.notify()

    @property
    def is_running(self) -> bool:
        """True while the thread runs, which only `stop` ends."""
        return self._thread.is_alive()

    # on the thread

    def _run(self) -> None:
        while not self._turn():
            pass
        self._close()

    def _turn(self) -> bool:
        """Do the next work; return True where it was the last."""
        is_last = False
        try:
            mail = self._wait()
            is_last = mail.stop
            self._owed = list(mail.entries.values())
            self._serve(mail, is_last=is_last)
        except Exception as error:  # noqa: BLE001 - the thread's edge: its owner is told, and keeps what it handed over
            self._fail(error, time.monotonic())
            self._say(Done(self._owed, {}, failed=True, state=DiskState(self._trouble, self._damaged)))
            time.sleep(_GATHER_S)
        return is_last

    def _say(self, done: Done) -> None:
        self._owed = []
        self._tell(done)

    def _wait(self) -> _Mailbox:
        """Wait for work and return it; empty where only work at a certain time is due."""
        with self._wake:
            mail = self._mail
            if not (mail.has_writes or mail.fetches or mail.stop):
                self._wake.wait(None if self._has_rest() else self._due_in_s())
            if mail.has_writes and not (mail.fetches or mail.stop):
                self._wake.wait_for(lambda: mail.fetches or mail.stop, _GATHER_S)
            self._mail = _Mailbox(stop=mail.stop)
            return mail

    def _has_rest(self) -> bool:
        """Return True where no work can become due with time, because the file is open, empty and without trouble."""
        store = self._store
        is_empty = store is not None and not any(total.count for total in store.totals.values())
        return is_empty and self._trouble is None and not self._is_dirty

    def _due_in_s(self) -> float:
        now_s = time.monotonic()
        if self._store is None or self._trouble is not None:
            return max(0.0, self._try_at_s - now_s)
        if any(self._undone.values()):
            return 0.0
        due_s = self._synced_s + SYNC_S if self._is_dirty else self._expired_s + _EXPIRE_S
        return max(0.0, due_s - now_s)

    def _serve(self, mail: _Mailbox, *, is_last: bool) -> None:
        for kind, numbers in mail.done.items():
            self._undone[kind] |= numbers
        entries = list(mail.entries.values())
        is_due = self._due_in_s() == 0 and not self._has_rest()
        if entries or any(self._undone.values()) or is_due or (is_last and self._is_dirty):
            self._write(entries, sync=is_last or any(entry.kind is Kind.EVENT for entry in entries))
        for kind, (after, limit, asked) in mail.fetches.items():
            self._fetch(kind, after, limit, asked)

    def _write(self, entries: list[OutboxItem], *, sync: bool) -> None:
        now_s = time.monotonic()
        sync = sync or now_s >= self._synced_s + SYNC_S
        forgotten = {kind: set(numbers) for kind, numbers in self._undone.items()}
        store = self._open(now_s)
        failed = True
        # because a full disk may accept a small batch after a large one, which is no recovery
        is_resting = self._trouble is not None and now_s < self._try_at_s
        if store is not None and not is_resting:
            try:
                store.write(entries, forgotten, sync=sync)
            except Exception as error:  # noqa: BLE001 - whatever a file holds, the thread goes on
                self._fail(error, now_s)
            else:
                failed = False
                self._written(now_s, is_synced=sync, has_changes=bool(entries))
        self._say(Done(entries, {} if failed else forgotten, failed, self._state()))

    def _written(self, now_s: float, *, is_synced: bool, has_changes: bool) -> None:
        self._trouble = None
        self._expired_s = now_s
        for numbers in self._undone.values():
            numbers.clear()
        if is_synced:
            self._synced_s, self._is_dirty = now_s, False
        elif has_changes:
            self._is_dirty = True

    def _fetch(self, kind: Kind, after: int, limit: int, asked: int) -> None:
        entries: list[OutboxItem] = []
        # twice, because a damaged file is replaced by a new one
        for _ in range(2):
            try:
                store = self._open(time.monotonic())
                entries = store.read(kind, after, limit) if store is not None else []
                break
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error, time.monotonic())
                self._say(Done([], {}, failed=True, state=self._state()))
        left = [entry for entry in entries if entry.number not in self._undone[kind]]
        self._tell(Fetched(kind, asked, left, is_end=len(entries) < limit))

    def _open(self, now_s: float) -> SqliteStore | None:
        # twice, because a damaged file is replaced by a new one
        for _ in range(2):
            if self._store is None and now_s >= self._try_at_s:
                try:
                    self._store = SqliteStore(self._path, self._bounds, self._base)
                except Exception as error:  # noqa: BLE001 - as above
                    self._fail(error, now_s)
                else:
                    self._base = self._store.base
        return self._store

    def _fail(self, error: Exception, now_s: float) -> None:
        self._try_at_s = now_s + self._retry_s
        trouble: str | None = str(error) or type(error).__name__
        if is_damage(error):
            trouble = self._replace_damaged(str(error), now_s)
        elif not isinstance(error, (sqlite3.Error, OSError)):
            _log.error("event=outbox_failed file=%s", self._path, exc_info=error)
            self._close()
        if trouble is not None and trouble != self._trouble:
            _log.error("event=outbox_trouble file=%s detail=%r", self._path, trouble)
        self._trouble = trouble

    def _replace_damaged(self, detail: str, now_s: float) -> str | None:
        """Salvage the damaged file and set it aside; return the reason where that fails, else None."""
        before = {kind: total.count for kind, total in self._store.totals.items()} if self._store is not None else {}
        self._close()
        draft, kept = draft_of(self._path), dict.fromkeys(Kind, 0)
        try:
            before = {kind: max(before.get(kind, 0), count) for kind, count in self._salvage(draft, kept).items()}
        except (sqlite3.Error, OSError) as error:
            _log.warning("event=outbox_not_salvaged file=%s detail=%r", self._path, str(error))
            kept = dict.fromkeys(Kind, 0)
        try:
            name = set_aside(self._path)
            if any(kept.values()):
                draft.replace(self._path)
            else:
                remove(draft)
        except OSError as error:
            return f"{detail}; and it cannot be set aside: {error.strerror}"
        lost = {kind: max(0, before.get(kind, 0) - kept[kind]) for kind in Kind}
        for kind, count in lost.items():
            self._dropped[kind] += count
        self._damaged = (
            f"{detail}; {sum(kept.values())} messages kept, {sum(lost.values())} lost; set aside as {name.name}"
        )
        self._try_at_s = now_s
        _log.error("event=outbox_damaged file=%s detail=%r", self._path, self._damaged)
        return None

    def _salvage(self, draft: Path, kept: dict[Kind, int]) -> dict[Kind, int]:
        """Copy readable messages to a new file; return how many the old one held by kind. `kept` gets those copied."""
        remove(draft)
        if not self._path.exists() or not self._path.stat().st_size:
            return dict.fromkeys(Kind, 0)
        boot, now_s = kernel_moment()
        base = self._base or 0
        with salvaged(self._path, now_s) as old, closing(SqliteStore(draft, self._bounds, base)) as new:
            offset_s = old.offset_s(boot)
            for kind in Kind:
                entries = old.entries(kind, base, offset_s)
                while chunk := list(islice(entries, _SALVAGED)):
                    new.write(chunk, {}, sync=False)
            kept.update({kind: total.count for kind, total in new.totals.items()})
            for kind, count in new.dropped.items():
                self._dropped[kind] += count
                kept[kind] += count
            new.write([], {}, sync=True)
            return {kind: old.held(kind) for kind in Kind}

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        for kind, count in store.dropped.items():
            self._dropped[kind] += count
        try:
            store.close()
        except sqlite3.Error:
            _log.debug("event=outbox_not_closed file=%s", self._path)

    def _state(self) -> DiskState:
        store = self._store
        if store is None:
            return DiskState(self._trouble, self._damaged, dropped=dict(self._dropped))
        dropped = {kind: count + self._dropped[kind] for kind, count in store.dropped.items()}
        oldest_kept_s = None
        try:
            oldest_kept_s = store.oldest_kept_s()
        except Exception:  # noqa: BLE001 - a file that is damaged shows it where it is read
            _log.debug("event=outbox_age_unknown file=%s", self._path)
        return DiskState(self._trouble, self._damaged, dict(store.totals), dropped, oldest_kept_s)
