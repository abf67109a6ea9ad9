"""Unload models, and see their bytes come back."""

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory import process_memory
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.footprints import Footprints
from agent.inference.memory.runtime_overhead import RuntimeOverhead

_NOISE_BYTES: Final = 8 << 20  # pipelines allocate and free meanwhile
_NOISE_SHARE: Final = 0.1
_LOOK_S: Final = 0.5


@dataclass(eq=False)
class _Kept:
    """Bytes that did not come back: `level_bytes` is what the process held then, beyond all other charges."""

    entry: Entry[Model]
    level_bytes: int


@dataclass
class _Known:
    """What a release needs of a load: `key` is its footprint's, `backend` the runtime that brought `brought_bytes`."""

    key: str
    backend: str
    brought_bytes: int = 0


class Unloader:
    """Closes models and keeps their bytes charged until they are seen to be back.

    For the loader's thread, and for one that it left behind: looking is done by one thread at a time.
    """

    def __init__(
        self,
        cache: Cache[Model],
        footprints: Footprints,
        account: RuntimeOverhead,
        timeout_s: float,
        warn: Callable[[str], None],
    ) -> None:
        self._cache: Final = cache
        self._footprints: Final = footprints
        self._account: Final = account
        self._timeout_s: Final = timeout_s
        self._warn: Final = warn
        self._looking: Final = threading.Lock()
        self._kept: list[_Kept] = []
        self._known: Final[dict[Entry[Model], _Known]] = {}

    def expect(self, entry: Entry[Model], key: str, backend: str) -> None:
        """Note, before `entry` is loaded, which footprint its release will correct, and which backend brings it."""
        self._known[entry] = _Known(key, backend)

    def brought(self, entry: Entry[Model], brought_bytes: int) -> None:
        """Note how much came with a model: its release gives back no more of its own."""
        self._known[entry].brought_bytes = brought_bytes

    def release(self, entry: Entry[Model]) -> bool:
        """Unload a standby model; False where somebody uses it."""
        process_memory.trim()  # or pages that lay idle would seem to come back with it
        before_bytes = process_memory.process_bytes()
        model = self._cache.begin_release(entry)
        if model is None:
            return False
        model.close()
        del model
        known = self._known[entry]
        returned_bytes = self.wait_freed(entry, before_bytes)
        if returned_bytes is not None:
            self._footprints.came_back(known.key, returned_bytes, known.brought_bytes)
        return True

    def wait_freed(self, entry: Entry[Model], before_bytes: int) -> int | None:
        """Wait until a closed model's bytes are back from the `before_bytes` held with it; the rest stays charged.

        Returns what came back, None where that is not all.
        """
        with self._looking:
            return self._see_back(entry, before_bytes)

    def kept(self) -> tuple[tuple[str, int], ...]:
        """Return references and bytes of what was released and is not back."""
        with self._looking:
            return tuple((kept.entry.version.reference, kept.entry.bytes) for kept in self._kept if kept.entry.bytes)

    def look_again(self) -> None:
        """See whether bytes that were kept back have returned since."""
        with self._looking:
            if self._kept:
                self._look_again()

    def _see_back(self, entry: Entry[Model], before_bytes: int) -> int | None:
        charged_bytes = entry.bytes
        level_bytes = before_bytes - charged_bytes + max(_NOISE_BYTES, int(charged_bytes * _NOISE_SHARE))
        backend = self._known.pop(entry).backend
        allowed_bytes = self._account.left_bytes(backend)
        held_bytes = self._wait(level_bytes, allowed_bytes)
        if held_bytes <= level_bytes + allowed_bytes:
            self._account.keep(backend, held_bytes - level_bytes)
            self._cache.returned(entry, charged_bytes)
            return before_bytes - held_bytes
        left_bytes = self._cache.returned(entry, before_bytes - held_bytes)
        kept = _Kept(entry, held_bytes)
        self._kept.append(kept)
        kept.level_bytes -= self._charged_elsewhere()
        self._warn(f"{entry.version.reference}: {left_bytes >> 20} MiB were not given back; they stay charged")
        return None

    def _wait(self, level_bytes: int, allowed_bytes: int) -> int:
        """Look until the process is at `level_bytes`, or for a while and at `allowed_bytes` more; return its bytes."""
        held_bytes = process_memory.wait_until_at_most(level_bytes, _LOOK_S)
        if held_bytes > level_bytes:
            gc.collect()  # a runtime's objects may hold each other; the frozen rest is not looked at
            held_bytes = process_memory.wait_until_at_most(level_bytes, _LOOK_S)
        if held_bytes > level_bytes + allowed_bytes:
            held_bytes = process_memory.wait_until_at_most(level_bytes + allowed_bytes, self._timeout_s)
        return held_bytes

    def _look_again(self) -> None:
        process_memory.trim()
        still = []
        for kept in self._kept:
            level_bytes = process_memory.process_bytes() - self._charged_elsewhere()
            returned_bytes = max(0, kept.level_bytes - level_bytes)
            kept.level_bytes = min(kept.level_bytes, level_bytes)
            if self._cache.returned(kept.entry, returned_bytes):
                still.append(kept)
        self._kept = still

    def _charged_elsewhere(self) -> int:
        return self._cache.used_bytes - sum(kept.entry.bytes for kept in self._kept)
