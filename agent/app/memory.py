"""Keeps control's snapshot on disk: whole or not at all, written at once, and synced soon after."""

import logging
import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from agent.control.snapshot import Snapshot

_log: Final = logging.getLogger(__name__)
_STOP_S: Final = 2.0


class SnapshotFile:
    """`control.json`, which outlives a killed process, and `control.synced.json`, which outlives a loss of power.

    The first is replaced within `save`, and left to the kernel. The second is a copy that a thread of this object's own
    brings onto the medium, so that a slow flash never holds the caller up. A device whose state directory cannot be
    written goes on, and says so once a reason. All methods are for one thread.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path: Final = state_dir / "control.json"
        self._written: bytes | None = None
        self._trouble = ""
        self._syncing: Final = _Syncing(state_dir / "control.synced.json")

    def load(self) -> Snapshot:
        """Return what was kept; an empty snapshot where there is none. A damaged file is set aside."""
        return self._read(self._path) or self._read(self._syncing.path) or Snapshot()

    def save(self, snapshot: Snapshot) -> None:
        """Write `snapshot` if it differs from what is on disk."""
        data = msgspec.json.encode(snapshot)
        if data == self._written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace(self._path, data, sync=False)
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("event=snapshot_unwritten file=%s detail=%r", self._path, str(error))
            return
        self._written, self._trouble = data, ""
        self._syncing.put(data)

    def close(self) -> None:
        """Wait for the copy, as long as 2 s allow."""
        self._syncing.close()

    def _read(self, path: Path) -> Snapshot | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("event=snapshot_unreadable file=%s detail=%r", path, str(error))
            _set_aside(path)
            return None


class _Syncing:
    """Writes the newest bytes that it was given; older ones that it did not come to are passed over."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._changed: Final = threading.Condition()
        self._data: bytes | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, data: bytes) -> None:
        with self._changed:
            self._data = data
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
            self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._data is not None or self._closed)
                data, self._data = self._data, None
            if data is None:
                return
            try:
                replace(self.path, data, sync=True)
            except OSError as error:
                _log.warning("event=snapshot_unsynced file=%s detail=%r", self.path, str(error))


def replace(path: Path, data: bytes, *, sync: bool) -> None:
    """Put `data` into the place of a file, whole or not at all; with `sync` it is on the medium. Raises OSError."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_suffix(".damaged.json"))
    except OSError:
        _log.warning("event=snapshot_kept file=%s detail=%r", path, "cannot be set aside")
