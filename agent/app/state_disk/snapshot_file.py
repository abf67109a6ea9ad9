"""Control's snapshot on disk: each change is appended at once, and synced soon after."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import Final

import msgspec

from agent.app.state_disk.disk_thread import DiskThread
from agent.app.state_disk.record_log import RecordLog, read_log
from agent.app.state_disk.snapshot_reading import Kind, read
from agent.control.snapshot import Change, LineSnapshot, Snapshot, change, changed, without_choices
from agent.files import replace_file
from agent.messages.events import Noticed

STATE_DISK: Final = "state_disk"
"""Alert code: choices and acks cannot be written."""
LOG_BYTES: Final = 2 << 20
"""A longer log is folded into the snapshot, which costs less than a KB for each command."""
_RETRY_S: Final = 5.0
_STALE: Final = "control.stale"
_SUFFIX: Final = ".json"
_LONGEST_NAMES: Final = 200
_MOST_TOLD: Final = 20
_FULL: Final = {ENOSPC, EDQUOT, EFBIG}
"""Errors of a full disk, on which files can still be renamed to mark a lost choice."""
_log: Final = logging.getLogger(__name__)


class SnapshotFile:
    """A whole snapshot in `control.json`, and later changes in `control-N.log`.

    A change outlives a killed process when `save` returns; a thread syncs it against a loss of power. Without a
    writable folder the agent goes on and reports it to `tell`; the name of `control.json` then marks its choices as
    stale for the next start (decision 66). All methods are for one thread.
    """

    def __init__(self, state_dir: Path, tell: Callable[[Noticed], None] = lambda _notice: None) -> None:
        self._folder: Final = state_dir
        self._path: Final = state_dir / "control.json"
        self._older_copy: Final = state_dir / "control.synced.json"
        self._tell: Final = tell
        self._disk: Final = DiskThread(state_dir)
        self._written = Snapshot()
        self._wanted = Snapshot()
        self._log: RecordLog | None = None
        self._number = 0
        self._fold_at_bytes = LOG_BYTES
        self._trouble = ""
        self._is_unmarked = False
        self._is_unsynced = False
        self._is_loaded = False
        self._retry_at_s: float | None = None

    def load(self) -> Snapshot:
        """Load the snapshot, empty where there is none, and open the log.

        A line whose newest choice may not have been written is left without a choice.
        """
        self._is_loaded = True
        whole, old_lines = self._read_whole()
        records, is_damaged = self._read_logs(whole.first_log)
        kept = changed(whole, *records)
        if not (is_damaged or old_lines):
            self._written = self._wanted = kept
            try:
                self._open_log()
            except OSError as error:
                self._fail(error)
                # damaged, because nothing could be marked here, so that a choice may be missing unnoticed
                is_damaged = error.errno not in _FULL
        if is_damaged or old_lines:
            lost = [id_ for id_, line in kept.lines.items() if any(line.choices)] if is_damaged else old_lines
            self._written = self._wanted = kept = without_choices(kept, lost)
            self._number = max(whole.first_log, *map(_number, self._logs()), 0)
            self._rewrite()
        return msgspec.structs.replace(kept, first_log=0)

    def save(self, snapshot: Snapshot) -> None:
        """Append the difference between `snapshot` and what is on disk to the log."""
        if not self._is_loaded:
            self.load()
        self._wanted = snapshot
        if self._trouble or self._log is None:
            self._mark_if_old()
            return
        difference = change(self._written, snapshot)
        if difference == Change():
            return
        try:
            self._log.append(msgspec.json.encode(difference))
        except OSError as error:
            self._fail(error)
            self._mark_if_old()
            return
        self._written = snapshot
        self._disk.sync(self._log)
        if self._log.size_bytes >= self._fold_at_bytes:
            self._fold()

    def save_beside(self, path: Path, data: bytes) -> None:
        """Have the thread write another file of the state folder."""
        self._disk.fold(path, data, [], None)

    def tick(self, now_s: float) -> None:
        """Retry failed writes every 5 s; `now_s` is monotonic."""
        if (trouble := self._disk.trouble()) is not None:
            self._is_unsynced = True
            self._fail(trouble)
        if self._trouble and self._retry_at_s is None:
            self._retry_at_s = now_s + _RETRY_S
        if self._retry_at_s is not None and now_s >= self._retry_at_s:
            self._retry_at_s = None
            self._retry()
        if self._trouble:
            self._mark_if_old()  # because the thread may just have written an older one

    def close(self) -> None:
        """Write one whole snapshot, which older versions can read; waits at most 2 s for the disk."""
        if self._trouble:
            self._retry()
        elif self._log is not None:
            self._fold()
        self._disk.close()

    # reading

    def _read_whole(self) -> tuple[Snapshot, list[str]]:
        """Return the newest readable snapshot, and the lines whose choices are stale."""
        kept = self._read(self._path)
        stale = self._stale()
        if kept is not None or stale is None:
            return kept or self._read(self._older_copy) or Snapshot(), []
        kept = self._read(stale) or Snapshot()
        named = stale.name[len(_STALE) : -len(_SUFFIX)].strip(".")
        return kept, named.split(",") if named else list(kept.lines)

    def _stale(self) -> Path | None:
        found = sorted(self._found(f"{_STALE}*{_SUFFIX}"))
        return found[-1] if found else None

    def _found(self, pattern: str) -> list[Path]:
        """Return the folder's files of a pattern; none where the folder is missing or closed to this user."""
        try:
            return list(self._folder.glob(pattern))
        except OSError:
            return []  # because the next write reports it

    def _read(self, path: Path) -> Snapshot | None:
        try:
            return self._decoded(path.read_bytes(), Snapshot)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("event=snapshot_unreadable file=%s detail=%r", path, str(error))
            _set_aside(path)
            return None

    def _decoded(self, data: bytes, kind: type[Kind]) -> Kind:
        """Decode JSON; what this release does not know is logged and left out. Raises msgspec.DecodeError."""
        found, unread = read(data, kind)
        if unread:
            _log.error("event=snapshot_partly_read folder=%s unknown=%s", self._folder, ",".join(unread[:_MOST_TOLD]))
        return found

    def _read_logs(self, first: int) -> tuple[list[Change], bool]:
        """Return all changes since the snapshot, and True where one of them is damaged or unreadable."""
        changes: list[Change] = []
        is_damaged = False
        try:
            for path in self._logs(first):
                content = read_log(path)
                changes += [self._decoded(record, Change) for record in content.records]
                is_damaged = is_damaged or content.is_damaged
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("event=snapshot_unreadable folder=%s detail=%r", self._folder, str(error))
            return changes, True
        if is_damaged:
            _log.error("event=snapshot_damaged folder=%s", self._folder)
        return changes, is_damaged

    def _logs(self, first: int = 0) -> list[Path]:
        found = self._found("control-*.log")
        return sorted((path for path in found if _number(path) >= max(1, first)), key=_number)

    # writing

    def _open_log(self) -> None:
        """Open the newest log with a trial write; create a snapshot where there is none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        logs = self._logs(self._written.first_log)
        self._number = max(1, self._written.first_log, *(_number(path) for path in logs))
        path = self._folder / f"control-{self._number}.log"
        if not self._path.exists():
            replace_file(self._path, msgspec.json.encode(self._written), sync=False)
        self._log = RecordLog(path, read_log(path).size_bytes if path in logs else 0)
        self._log.append(msgspec.json.encode(Change()))
        self._disk.sync(self._log)

    def _fold(self) -> None:
        """Start a new log, and let the thread write the snapshot that replaces the older logs."""
        old, logs = self._log, self._logs()
        try:
            self._log = RecordLog(self._folder / f"control-{self._number + 1}.log")
        except OSError as error:
            self._fold_at_bytes += LOG_BYTES
            _log.warning("event=snapshot_not_folded folder=%s detail=%r", self._folder, str(error))
            return
        self._number, self._fold_at_bytes = self._number + 1, LOG_BYTES
        self._disk.fold(self._path, self._whole(self._written), [*logs, self._older_copy], old)

    def _retry(self) -> None:
        """Retry after a failure: append to the log, or write all anew where the log could not be opened or synced."""
        if self._disk.is_folding:
            return  # because the thread's older snapshot could replace a newer one
        if self._log is None or self._is_unsynced:
            self._rewrite()
            return
        try:
            self._log.append(msgspec.json.encode(change(self._written, self._wanted)))
            if not self._path.exists() and (stale := self._stale()) is not None:
                stale.replace(self._path)
        except OSError as error:
            self._fail(error)
            return
        self._written, self._trouble = self._wanted, ""
        self._disk.sync(self._log)
        self._disk.sync_folder()
        self._tell(Noticed(STATE_DISK, on=False))

    def _rewrite(self) -> None:
        """Write a whole snapshot and start a new log, which also repairs failed appends."""
        self._number += 1
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, self._whole(self._wanted), sync=False)
            old, self._log = self._log, RecordLog(self._folder / f"control-{self._number}.log")
        except OSError as error:
            self._fail(error)
            return
        needless = [path for path in self._logs() if _number(path) < self._number]
        for path in (*needless, *self._found(f"{_STALE}*{_SUFFIX}"), self._older_copy):
            with suppress(OSError):
                path.unlink()
        self._written, self._trouble, self._fold_at_bytes = self._wanted, "", LOG_BYTES
        self._is_unsynced = False
        self._disk.fold(self._path, None, [], old)
        self._tell(Noticed(STATE_DISK, on=False))

    def _whole(self, snapshot: Snapshot) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(snapshot, first_log=self._number))

    def _fail(self, error: OSError) -> None:
        detail = error.strerror or str(error)
        if detail != self._trouble:
            _log.error("event=snapshot_unwritten folder=%s detail=%r", self._folder, str(error))
            text = f"{self._folder}: {detail}; after a restart, lines wait for their products"
            self._tell(Noticed(STATE_DISK, on=True, detail=text))
        self._trouble = detail

    def _mark_if_old(self) -> None:
        """Mark lines with unwritten choices in the file's name, for the next start."""
        before, after = self._written.lines, self._wanted.lines
        lines = [
            id_
            for id_, line in after.items()
            if line.lost or (kept := before.get(id_, LineSnapshot())).lost or kept.choices != line.choices
        ]
        if not lines:
            return
        names = ",".join(sorted(lines))
        marked = self._folder / (f"{_STALE}.{names}{_SUFFIX}" if len(names) <= _LONGEST_NAMES else _STALE + _SUFFIX)
        try:
            found = self._path if self._path.exists() else self._stale()
            if found is None or found == marked:
                return
            found.replace(marked)
        except OSError as error:
            self._forget(error)
        self._disk.sync_folder()

    def _forget(self, error: OSError) -> None:
        """Remove files that cannot be marked as stale, because no choice is better than an old one."""
        if not self._is_unmarked:
            _log.error("event=snapshot_unmarked file=%s detail=%r", self._path, str(error))
        self._is_unmarked = True
        with suppress(OSError):
            self._path.unlink()
            for path in self._logs():
                path.unlink()


def _number(path: Path) -> int:
    digits = path.stem.partition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _set_aside(path: Path) -> None:
    try:
        os.replace(path, path.with_suffix(".damaged.json"))  # noqa: PTH105 - says that it replaces
    except OSError:
        _log.warning("event=snapshot_kept file=%s detail=%r", path, "cannot be set aside")
