"""The state folder, locked for one agent and private to its user."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final

import msgspec

from agent.messages.errors import NotStartedError
from agent.processes.private_files import FILE_MODE, FOLDER_MODE, UMASK, is_shared, make_private, make_private_tree

HOLDER_FILE: Final = "agent.lock"
"""Names the holder of the folder; the lock itself is on the folder, which a full disk cannot prevent."""
_HOLDER_BYTES: Final = 256
"""Fixed size, because a record written in place then needs no further space."""
_PATIENCE_S: Final = 1.0
"""Time that a killed agent may take to release the folder."""
_PAUSE_S: Final = 0.05
_OURS: Final = ("control*.json", "control*.log", "control*.new", "outbox*.db*", HOLDER_FILE)
_OUR_FOLDERS: Final = ("cache", "comparisons", "console", "doctor", "served")
_log: Final = logging.getLogger(__name__)


class _Holder(msgspec.Struct, frozen=True):
    pid: int
    device: str


@contextmanager
def taken(folder: Path, device: str) -> Iterator[None]:
    """Run the block with the state folder locked; raises NotStartedError where another agent holds the lock.

    Files written from here on, also by children, are private. A folder that cannot be created is logged, and the agent
    runs without it.
    """
    with _umask(UMASK), _held(folder, device):
        yield


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _held(folder: Path, device: str) -> Iterator[None]:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        _log.error("event=state_folder_missing folder=%s detail=%r", folder, str(error))
        yield
        return
    try:
        _lock(descriptor, folder)
        _close_to_others(folder, descriptor)
        _sign(folder, device)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    limit_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < limit_s:
                time.sleep(_PAUSE_S)
                continue
            raise NotStartedError(
                f"the state folder {folder} is in use by {_holder(folder)}: one agent a folder; "
                "stop that one, or give this device a device.state_dir of its own"
            ) from None
        except OSError as error:
            # continues, because some network file systems have no locks
            _log.warning("event=state_folder_unlocked folder=%s detail=%r", folder, str(error))
        return


def _close_to_others(folder: Path, descriptor: int) -> None:
    if is_shared(descriptor):
        _log.warning("event=state_folder_shared folder=%s detail=%r", folder, "others may write to it")
    else:
        with suppress(PermissionError):
            os.fchmod(descriptor, FOLDER_MODE)
    for pattern in _OURS:
        for path in folder.glob(pattern):
            make_private(path)
    for name in _OUR_FOLDERS:
        make_private_tree(folder / name)
    # created here, because a child started by root would create it as root's
    with suppress(OSError):
        (folder / "cache").mkdir(mode=FOLDER_MODE, exist_ok=True)
        make_private(folder / "cache")


def _sign(folder: Path, device: str) -> None:
    record = msgspec.json.encode(_Holder(os.getpid(), device)).ljust(_HOLDER_BYTES)
    path = folder / HOLDER_FILE
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            os.pwrite(file, record, 0)
        finally:
            os.close(file)
        make_private(path)
    except OSError as error:
        _log.warning("event=state_folder_unsigned file=%s detail=%r", path, str(error))


def _holder(folder: Path) -> str:
    try:
        holder = msgspec.json.decode((folder / HOLDER_FILE).read_bytes()[:_HOLDER_BYTES], type=_Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return "another agent"
    return f"process {holder.pid}, device {holder.device}"
