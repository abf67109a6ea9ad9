"""Which share of the cores' time nobody wants: what decides how far a load may step back."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_STAT: Final = Path("/proc/stat")
_WINDOW_S: Final = 0.5
_CORES: Final = frozenset(f"cpu{core}" for core in os.sched_getaffinity(0))
_FEWEST_TICKS: Final = 10  # of each core; a shorter window may have fallen into one frame


class IdleCpuSampler:
    """A thread that looks at the cores twice a second, but not while a load takes what is to spare. Owner: the worker.

    `share` is that of the last window without a load, cut short where one began: 0.0 before the first, as the loads of
    a start come before anything is known, and 1.0 for good where the kernel says nothing. It is that of the cores that
    we may run on; a limit in time (`CPUQuota=`) is not seen.
    """

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self.share = 0.0
        self._window_s: Final = window_s
        self._changed: Final = threading.Condition()
        self._loads: Final[set[object]] = set()
        self._before: tuple[int, int] | None = None  # at the begin of a window, None outside of any
        self._stopping = False
        self._thread: Final = RestartedThread(self._run, "spare")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    @contextmanager
    def in_use(self) -> Iterator[Callable[[], None]]:
        """Look away during the block: something of ours takes what is to spare. From any thread.

        Yields what ends it before the block does: for a block that may hang.
        """
        load = object()

        def end() -> None:
            with self._changed:
                self._loads.discard(load)
                self._changed.notify_all()

        with self._changed:
            self._close()
            self._loads.add(load)
            self._changed.notify_all()
        try:
            yield end
        finally:
            end()

    def _run(self) -> None:
        with self._changed:
            while not self._stopping:
                self._changed.wait_for(lambda: self._stopping or not self._loads)
                self._before = ticks()
                if self._before is None:
                    self.share = 1.0
                    return
                self._changed.wait_for(lambda: self._stopping or self._before is None, self._window_s)
                self._close()

    def _close(self) -> None:
        """End the window in hand, and take what it says if it is long enough. Needs the lock."""
        before, self._before = self._before, None
        after = ticks() if before is not None else None
        if before is not None and after is not None and after[1] - before[1] >= _FEWEST_TICKS * len(_CORES):
            self.share = (after[0] - before[0]) / (after[1] - before[1])


def ticks() -> tuple[int, int] | None:
    """Return the idle and all clock ticks of our cores since the start; None where the kernel does not say."""
    try:
        rows = [line.split() for line in _STAT.read_text(encoding="ascii").splitlines()]
        counts = [[int(word) for word in row[1:9]] for row in rows if row[0] in _CORES]
        return (sum(row[3] + row[4] for row in counts), sum(map(sum, counts))) if counts else None
    except (OSError, ValueError, IndexError) as error:
        _LOG.info("the cores' time cannot be read, so loads take it that some is to spare: %s", error)
        return None
