"""Measures the idle share of CPU time."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOG: Final = logging.getLogger(__name__)
STAT: Final = Path("/proc/stat")
CORES: Final = frozenset(f"cpu{core}" for core in os.sched_getaffinity(0))
_FEWEST_TICKS: Final = 10
"""Least clock ticks of each core in a window, because a shorter one may lie within one frame."""

INTERVAL_S: Final = 0.5
_FRESH_S: Final = 2.0
"""Age up to which a share says enough of the present to begin a load that nobody waits for."""


class IdleCpuSampler:
    """Sampler of the idle share of this process's cores; it pauses while a load or preparation of ours runs.

    A limit of CPU time (`CPUQuota=`) is not seen. Threading: any thread.
    """

    def __init__(self) -> None:
        self.share = 0.0
        """Idle share, 0 to 1, in the last window without a load; 1.0 where the kernel does not report it."""
        self._lock: Final = threading.Lock()
        self._pauses = 0
        self._measured_s = float("-inf")
        self._before: tuple[int, int] | None = None
        """Idle and all clock ticks at the start of the window; None outside of one."""

    def sample(self) -> None:
        """End a window and start the next; call it each INTERVAL_S."""
        with self._lock:
            self._end_window()
            if not self._pauses:
                self._before = ticks()
                if self._before is None:
                    self.share, self._measured_s = 1.0, time.monotonic()

    def has_just_had(self, share: float) -> bool:
        """Return True where the idle share was at least `share` within the last seconds, since the last `forget`."""
        with self._lock:
            return self.share >= share and time.monotonic() - self._measured_s < _FRESH_S

    def forget(self) -> None:
        """Have `has_just_had` wait for the end of a new window; `share` stays."""
        with self._lock:
            self._measured_s = float("-inf")
            if self._before is not None:
                self._before = ticks()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run the block without measuring, because the block itself uses idle time."""
        with self._lock:
            self._end_window()
            self._pauses += 1
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if not self._pauses:
                    self._before = ticks()  # because the next preload waits for the end of a window

    def _end_window(self) -> None:
        before, self._before = self._before, None
        after = ticks() if before is not None else None
        if before is not None and after is not None and after[1] - before[1] >= _FEWEST_TICKS * len(CORES):
            self.share = (after[0] - before[0]) / (after[1] - before[1])
            self._measured_s = time.monotonic()


def ticks() -> tuple[int, int] | None:
    """Return the idle and all clock ticks of this process's cores since the device started; None where unknown."""
    try:
        rows = [line.split() for line in STAT.read_text(encoding="ascii").splitlines()]
        counts = [[int(word) for word in row[1:9]] for row in rows if row[0] in CORES]
        return (sum(row[3] + row[4] for row in counts), sum(map(sum, counts))) if counts else None
    except (OSError, ValueError, IndexError) as error:
        _LOG.info("event=idle_time_unknown error=%r", error)
        return None
