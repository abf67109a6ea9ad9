"""Space of the store: its size limit, and what must stay free on its disk."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.messages.errors import MistakeError, Reason, TransientError
from agent.models.keeping.collecting import size_of
from agent.models.keeping.in_use import read_in_use
from agent.models.store import Store

_LOOK_BYTES: Final = 8 << 20
"""Growth after which the disk is looked at again, because others write to it too."""


class NoRoomError(TransientError):
    """The store's limit or its disk leaves no room for a model."""

    reason: Final[Reason] = "no_space"


class Room:
    """Refuses what would not fit; `collect(bytes)` deletes what nobody uses, and is called before a refusal."""

    def __init__(self, store_dir: Path, max_bytes: int, min_free_bytes: int, collect: Callable[[int], object]) -> None:
        self._store_dir: Final = store_dir
        self._max_bytes: Final = max_bytes
        self._min_free_bytes: Final = min_free_bytes
        self._collect: Final = collect
        self._granted_bytes = 0

    def require(self, more_bytes: int) -> None:
        """Raise NoRoomError unless so many further bytes fit."""
        short_bytes = self._short_bytes(more_bytes)
        if short_bytes > 0:
            self._collect(short_bytes)
            short_bytes = self._short_bytes(more_bytes)
        if short_bytes > 0:
            raise NoRoomError(self._words(more_bytes, short_bytes))
        self._granted_bytes = more_bytes

    def grow(self, written_bytes: int) -> None:
        """Count bytes written; raises as `require` where the disk was filled meanwhile, or the limit is reached."""
        before_bytes, self._granted_bytes = self._granted_bytes, self._granted_bytes - written_bytes
        if self._granted_bytes < 0 or before_bytes // _LOOK_BYTES != self._granted_bytes // _LOOK_BYTES:
            self.require(self._granted_bytes if self._granted_bytes >= 0 else _LOOK_BYTES)

    def _short_bytes(self, more_bytes: int) -> int:
        disk = os.statvfs(self._store_dir)
        free_bytes = disk.f_bavail * disk.f_frsize
        over_bytes = size_of(self._store_dir) + more_bytes - self._max_bytes
        return max(over_bytes, more_bytes + self._min_free_bytes - free_bytes)

    def _words(self, more_bytes: int, short_bytes: int) -> str:
        needs = f"{more_bytes / 1e6:.1f} MB more are needed in {self._store_dir}, {short_bytes / 1e6:.1f} MB too many"
        return (
            f"{needs} for catalog.max_bytes or catalog.min_free: `changeover models gc --dry-run` shows what is there"
        )


def collector(store: Store, state_dir: Path) -> Callable[[int], None]:
    """Return what deletes so many bytes of releases that nobody uses, for a Room of `store`.

    An invalid catalog, or one whose folder is not ours, names no model for certain: then nothing goes.
    """

    def collect(needed_bytes: int) -> None:
        with suppress(MistakeError, OSError):
            store.collect(read_in_use(state_dir), needed_bytes)

    return collect
