"""Keeps control's snapshot on disk: whole or not at all, and written only where it changed."""

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from agent.control.snapshot import Snapshot

_log: Final = logging.getLogger(__name__)


class SnapshotFile:
    """`control.json`. A device whose state directory cannot be written goes on, and says so once a reason."""

    def __init__(self, state_dir: Path) -> None:
        self._path: Final = state_dir / "control.json"
        self._written: bytes | None = None
        self._trouble = ""

    def load(self) -> Snapshot:
        """Return what was kept; an empty snapshot where there is none, or where it is damaged (it is set aside)."""
        try:
            self._written = self._path.read_bytes()
            return msgspec.json.decode(self._written, type=Snapshot)
        except FileNotFoundError:
            return Snapshot()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("event=snapshot_unreadable file=%s detail=%r", self._path, str(error))
            self._set_aside()
            return Snapshot()

    def save(self, snapshot: Snapshot) -> None:
        """Write and sync `snapshot` if it differs from what is on disk."""
        data = msgspec.json.encode(snapshot)
        if data == self._written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._path, data)
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("event=snapshot_unwritten file=%s detail=%r", self._path, str(error))
            return
        self._written, self._trouble = data, ""

    def _set_aside(self) -> None:
        try:
            self._path.replace(self._path.with_suffix(".damaged.json"))
        except OSError:
            _log.warning("event=snapshot_kept file=%s detail=%r", self._path, "cannot be set aside")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
