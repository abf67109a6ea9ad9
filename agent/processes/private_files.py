"""Private files: mode 0600 in folders of mode 0700."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
UMASK: Final = 0o077
_SHARED: Final = stat.S_ISVTX | stat.S_IWOTH
"""Mode bits of a folder that is shared by design, such as /tmp, and stays open to others."""


def make_private(path: Path) -> None:
    """Deny other users access to a file or folder; root also gives it to the owner of its parent folder.

    Links, missing files and files of other users are left unchanged.
    """
    with suppress(OSError):
        # by descriptor, because the path may be replaced between check and change
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _close_to_others(descriptor, path.parent.stat())
        finally:
            os.close(descriptor)


def _close_to_others(descriptor: int, above: os.stat_result) -> None:
    info = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(info.st_mode)
    if not is_folder and (not stat.S_ISREG(info.st_mode) or info.st_nlink != 1):
        return
    wanted = FOLDER_MODE if is_folder else FILE_MODE
    if stat.S_IMODE(info.st_mode) != wanted:
        os.fchmod(descriptor, wanted)
    # because files that root leaves behind must be readable by the service
    if os.geteuid() == 0 and (info.st_uid, info.st_gid) != (above.st_uid, above.st_gid):
        os.fchown(descriptor, above.st_uid, above.st_gid)


def make_private_tree(folder: Path) -> None:
    """Deny other users access to a folder and everything in it."""
    make_private(folder)
    with suppress(OSError):
        if folder.is_symlink() or not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            make_private_tree(path)


def is_shared(descriptor: int) -> bool:
    """Return True where an open folder is writable by all users by design, such as /tmp."""
    return bool(os.fstat(descriptor).st_mode & _SHARED == _SHARED)
