"""Mounts a folder of one file that is read slowly, or not at all: `slow_mount.py MOUNT FILE PAUSE_S HANG_AFTER`.

It stands for a NAS; run by the interpreter that has mfusepy.
"""

import errno
import sys
import time
from pathlib import Path

import mfusepy as fuse


class OneFile(fuse.Operations):  # type: ignore[misc]
    """One file; a read sleeps, and after `hang_after` bytes it never ends."""

    use_ns = True

    def __init__(self, file: str, pause_s: float, hang_after: int) -> None:
        self._content = Path(file).read_bytes()
        self._name = "/" + Path(file).name
        self._pause_s = pause_s
        self._hang_after = hang_after

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": 0o40755, "st_nlink": 2}
        if path != self._name:
            raise fuse.FuseOSError(errno.ENOENT)
        return {"st_mode": 0o100644, "st_nlink": 1, "st_size": len(self._content), "st_mtime": 10**18}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", self._name[1:]]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        time.sleep(self._pause_s if offset < self._hang_after else 3600)
        return self._content[offset : offset + size]


if __name__ == "__main__":
    mount, file, pause, hang_after = sys.argv[1:]
    fuse.FUSE(OneFile(file, float(pause), int(hang_after)), mount, foreground=True, direct_io=True)
