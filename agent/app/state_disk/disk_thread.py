"""Thread that syncs control's snapshot to disk, so that a slow flash never blocks control."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.app.state_disk.record_log import RecordLog
from agent.files import replace_file, sync_path

SYNC_S: Final = 1.0
"""Least time between two syncs, because flash wears out by the sync, not by the byte."""
_STOP_S: Final = 2.0
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fold:
    path: Path
    data: bytes | None
    needless: list[Path]
    log: RecordLog | None


class DiskThread:
    """Thread that syncs the newest log and writes whole snapshots; superseded requests are skipped.

    The owner polls `trouble` for failures; the thread continues after each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._changed: Final = threading.Condition()
        self._log: RecordLog | None = None
        self._folds: Final[deque[_Fold]] = deque()
        self._is_folding = False
        self._owes_folder = False
        self._closed = False
        self._trouble: OSError | None = None
        self._synced_s = -SYNC_S
        self._thread: threading.Thread | None = None

    def sync(self, log: RecordLog) -> None:
        """Request a sync of a log: at once, or one second after the last sync."""
        with self._changed:
            self._log = log
            self._changed.notify()
        self._start()

    def sync_folder(self) -> None:
        """Request a sync of the folder, so that created and renamed files survive a loss of power."""
        with self._changed:
            self._owes_folder = True
            self._changed.notify()
        self._start()

    def fold(self, path: Path, data: bytes | None, needless: list[Path], log: RecordLog | None) -> None:
        """Request that `data` (None: written already) is synced to `path`, `needless` unlinked and `log` closed."""
        with self._changed:
            if self._log is log:
                self._log = None
            self._folds.append(_Fold(path, data, needless, log))
            self._changed.notify()
        self._start()

    def trouble(self) -> OSError | None:
        """Return and clear the last failure; None without one."""
        with self._changed:
            trouble, self._trouble = self._trouble, None
            return trouble

    def close(self) -> None:
        """Finish pending work, for at most 2 s."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    @property
    def is_folding(self) -> bool:
        """True while a whole snapshot is being written or is pending."""
        with self._changed:
            return bool(self._folds) or self._is_folding

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._wait()
            try:
                self._work()
            except OSError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - the thread's edge: its owner is told
                _log.exception("event=snapshot_thread_failed")
                self._fail(OSError(f"{type(error).__name__}: {error}"))

    def _wait(self) -> bool:
        """Wait for work that is due; return True where it is the last."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            due_s = self._synced_s + SYNC_S - time.monotonic()
            if due_s > 0:
                self._changed.wait_for(lambda: self._closed or self._folds, due_s)
            return self._closed

    def _has_work(self) -> bool:
        return bool(self._closed or self._folds or self._owes_folder or self._log is not None)

    def _work(self) -> None:
        with self._changed:
            log, self._log = self._log, None
            folds = list(self._folds)
            self._folds.clear()
            self._is_folding = bool(folds)
            owes_folder, self._owes_folder = self._owes_folder, False
        try:
            if log is not None:
                log.sync()
                self._synced_s = time.monotonic()
            if owes_folder:
                sync_path(self._folder)
        finally:
            for fold in folds:
                _fold(fold)
            self._is_folding = False

    def _fail(self, error: OSError) -> None:
        with self._changed:
            self._is_folding = False
            self._trouble = error


def _fold(fold: _Fold) -> None:
    try:
        if fold.data is None:
            sync_path(fold.path)
        elif not _write_whole(fold.path, fold.data):
            return
        for path in fold.needless:
            path.unlink(missing_ok=True)
    finally:
        if fold.log is not None:
            fold.log.close()


def _write_whole(path: Path, data: bytes) -> bool:
    """Write the snapshot; log a failure and return False, because the logs still hold everything."""
    try:
        replace_file(path, data, sync=True)
    except OSError as error:
        _log.warning("event=snapshot_not_folded file=%s detail=%r", path, str(error))
        return False
    return True
