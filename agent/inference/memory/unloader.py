"""Unloads models, and waits until their memory is free again."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from agent.inference import backends
from agent.inference.backends import Model
from agent.inference.memory import process_memory
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.footprints import Footprints
from agent.inference.memory.runtime_overhead import RuntimeOverhead
from agent.inference.scheduling import load_priority

_NOISE_BYTES: Final = 8 << 20
"""Tolerance of a measurement, because pipelines allocate and free meanwhile."""
_NOISE_SHARE: Final = 0.1
_LOOK_S: Final = 0.5
_HANGING_S: Final = 10.0
"""Time after which a load that was abandoned counts as hanging, because its present step may only be slow."""


@dataclass(eq=False)
class _Kept:
    """Host memory of an unloaded model that did not become free."""

    entry: Entry[Model]
    level_bytes: int
    """Host memory of the process after the unload, minus the bytes charged for all other models."""


@dataclass(eq=False)
class _KeptOnDevice:
    """GPU memory of a closed model that its runtime's allocator still holds."""

    entry: Entry[Model]
    model: Model


@dataclass(eq=False)
class WatchedLoad:
    """A load under way, from the charge of its bytes to its end; or the close of a model."""

    entry: Entry[Model]
    is_abandoned: Callable[[], bool]
    is_unmeasured: bool = False
    """It may take what is charged for it, and nothing of that is measured yet."""
    abandoned_s: float = 0.0
    """Time at which it was first seen to be abandoned (monotonic); 0.0: it is not."""
    is_hanging: bool = False
    """It may never end, so it is treated as if it had been measured at its charge."""

    @contextmanager
    def unmeasured(self) -> Iterator[None]:
        """Run the block in which the load takes its bytes."""
        self.is_unmeasured = True
        try:
            yield
        finally:
            self.is_unmeasured = False


class Unloader:
    """Unloads models, and keeps their bytes charged until a measurement shows that they are free. Owner: the worker.

    GPU memory is not waited for: the runtime's allocator tells at once what it freed, and memory that nothing counts
    cannot be measured.

    Threading: for the load queue's thread and for loading threads; only one at a time waits for memory.
    """

    def __init__(
        self,
        cache: Cache[Model],
        footprints: Footprints,
        overhead: RuntimeOverhead,
        timeout_s: float,
        warn: Callable[[str], None],
    ) -> None:
        self.priority: Callable[[], load_priority.LoadPriority] = lambda: "normal"
        """Returns the CPU priority at which a model is closed now; set by who knows what waits for its memory."""
        self._cache: Final = cache
        self._footprints: Final = footprints
        self._overhead: Final = overhead
        self._timeout_s: Final = timeout_s
        self._warn: Final = warn
        self._lock: Final = threading.Lock()
        self.released_bytes = 0
        """Host memory that was charged for the models unloaded so far."""
        self._loads: Final[list[WatchedLoad]] = []
        self._kept: list[_Kept] = []
        self._kept_on_device: list[_KeptOnDevice] = []

    def release(self, entry: Entry[Model]) -> bool:
        """Unload a model that nobody uses, and wait for its memory; return False where it is in use or reserved."""
        if entry.device_bytes:
            return self._release_from_device(entry)
        beside = [one.entry.bytes for one in self._loading()]  # before the measurement, because a load may end after it
        process_memory.trim()  # because free pages would count as the model's
        before_bytes = process_memory.process_bytes()
        model = self._cache.begin_release(entry)
        if model is None:
            return False
        charged_bytes = entry.bytes
        with process_memory.giving_back():
            with self.watched(entry, lambda: True):  # because nothing gives up a close
                self._close(model)
            del model
            returned_bytes = self._wait_freed(entry, before_bytes + sum(beside))
        self.released_bytes += charged_bytes - entry.bytes
        if returned_bytes is not None and not beside:
            self._footprints.came_back(entry.origin.footprint_key, returned_bytes, entry.grown_bytes)
        return True

    @contextmanager
    def watched(self, entry: Entry[Model], is_abandoned: Callable[[], bool]) -> Iterator[WatchedLoad]:
        """Run the block as the load that `entry` is charged for, to its last step, or as the close of its model.

        One that goes on for 10 s after it `is_abandoned` hangs: its charge counts as memory that does not come back.
        """
        own = WatchedLoad(entry, is_abandoned)
        self._loads.append(own)
        try:
            yield own
        finally:
            self._loads.remove(own)

    def discard(self, entry: Entry[Model], model: Model | None, before_bytes: int) -> None:
        """Close the model of a failed load, and end its charge once its memory is free.

        `model` is None where it was not created yet. `before_bytes`: host memory of the process before the load.
        """
        self._cache.abandon(entry)
        with process_memory.giving_back():
            if model is not None:
                self._close(model)
            if entry.device_bytes:
                self._return_at_once(entry, model)
                process_memory.trim()
            else:
                self._wait_freed(entry, before_bytes + entry.bytes)
                self.settle()  # because it may have left something in GPU memory after all

    def settle(self) -> None:
        """Update the charge for GPU memory that the runtimes' allocators hold beyond their models'."""
        self._cache.account(backends.held_device_bytes())

    def _close(self, model: Model) -> None:
        """Close a model behind the lines that serve, because that takes tens of ms of a core."""
        with load_priority.lowered(self.priority(), may_stay=False):
            model.close()

    def _release_from_device(self, entry: Entry[Model]) -> bool:
        model = self._cache.begin_release(entry)
        if model is None:
            return False
        charged_bytes = entry.bytes
        # Watched, because nothing gives up a close.
        with process_memory.giving_back():
            with self.watched(entry, lambda: True):
                self._close(model)
            self._return_at_once(entry, model)
            del model
            process_memory.trim()
        self.released_bytes += charged_bytes
        return True

    def _return_at_once(self, entry: Entry[Model], model: Model | None) -> None:
        """End the charge for a closed model, but for GPU memory that its runtime's allocator still holds."""
        left_bytes = (model.device_bytes or 0) if model is not None else 0
        self._cache.keep_on_device(entry, left_bytes)
        if left_bytes and model is not None:
            with self._lock:
                self._kept_on_device.append(_KeptOnDevice(entry, model))
            self._warn(f"{entry.version.reference}: {left_bytes >> 20} MiB of the GPU's memory were not given back")
        self.settle()

    def _wait_freed(self, entry: Entry[Model], before_bytes: int) -> int | None:
        """Wait until a closed model's memory is free; `before_bytes` is the memory of the process before the close.

        Returns the freed bytes, or None where some are missing and stay charged.
        """
        with self._lock:
            return self._wait_and_return(entry, before_bytes)

    def unreclaimed(self) -> tuple[tuple[str, int], ...]:
        """Return the reference and the missing bytes of each model that is gone, or hangs, and still has memory."""
        with self._lock:
            entries = [kept.entry for kept in self._kept] + [closed.entry for closed in self._kept_on_device]
            hanging = [one.entry for one in tuple(self._loads) if one.is_hanging]
        entries += [entry for entry in hanging if entry not in entries]  # because one may end just now
        return tuple((entry.version.reference, entry.total_bytes) for entry in entries if entry.total_bytes)

    def recheck(self) -> None:
        """Measure again, and end the charge for missing memory that has become free."""
        with self._lock:
            self._note_hanging()
            if self._kept and not self._loading():  # because what a load has taken so far is not known
                self._recheck()
            for closed in self._kept_on_device:
                self._cache.keep_on_device(closed.entry, closed.model.device_bytes or 0)
            self._kept_on_device = [closed for closed in self._kept_on_device if closed.entry.device_bytes]
        self.settle()

    def _loading(self) -> list[WatchedLoad]:
        return [one for one in tuple(self._loads) if one.is_unmeasured and not one.is_hanging]

    def _note_hanging(self) -> None:
        now_s = time.monotonic()
        for one in tuple(self._loads):
            if not one.is_hanging and one.is_abandoned():
                one.abandoned_s = one.abandoned_s or now_s
                one.is_hanging = now_s - one.abandoned_s >= _HANGING_S
                if one.is_hanging:
                    self._lower_levels()

    def _lower_levels(self) -> None:
        """Have missing memory come back from the present level on, because a load may have taken less than charged."""
        level_bytes = process_memory.process_bytes() - self._charged_elsewhere()
        for kept in self._kept:
            kept.level_bytes = min(kept.level_bytes, level_bytes)

    def _wait_and_return(self, entry: Entry[Model], before_bytes: int) -> int | None:
        charged_bytes = entry.bytes
        level_bytes = before_bytes - charged_bytes + max(_NOISE_BYTES, int(charged_bytes * _NOISE_SHARE))
        backend = entry.origin.backend
        allowed_bytes = self._overhead.left_bytes(backend)
        held_bytes = self._wait(level_bytes, allowed_bytes)
        if held_bytes <= level_bytes + allowed_bytes:
            self._overhead.keep(backend, held_bytes - level_bytes)
            self._cache.returned(entry, charged_bytes)
            return before_bytes - held_bytes
        left_bytes = self._cache.returned(entry, before_bytes - held_bytes)
        kept = _Kept(entry, held_bytes)
        self._kept.append(kept)
        kept.level_bytes -= self._charged_elsewhere()
        self._warn(f"{entry.version.reference}: {left_bytes >> 20} MiB were not given back; they stay charged")
        return None

    def _wait(self, level_bytes: int, allowed_bytes: int) -> int:
        """Wait until the process holds `level_bytes`, else up to `allowed_bytes` more; return its present bytes."""
        held_bytes = process_memory.wait_until_at_most(level_bytes, _LOOK_S)
        if held_bytes > level_bytes:
            gc.collect()  # because a runtime's objects may hold each other; the frozen heap is not visited
            held_bytes = process_memory.wait_until_at_most(level_bytes, _LOOK_S)
        if held_bytes > level_bytes + allowed_bytes:
            held_bytes = process_memory.wait_until_at_most(level_bytes + allowed_bytes, self._timeout_s)
        return held_bytes

    def _recheck(self) -> None:
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
        return self._cache.used.host_bytes - sum(kept.entry.bytes for kept in self._kept)
