"""Which share of the cores' time nobody wants: what decides how far a load may step back."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOG: Final = logging.getLogger(__name__)
_STAT: Final = Path("/proc/stat")
_WINDOW_S: Final = 0.5


class Spare:
    """A thread that looks at the cores twice a second, but not while a load takes what is to spare. Owner: the worker.

    `share` is that of the last window without a load: 1.0 before the first, and for good where the kernel says nothing.
    """

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self.share = 1.0
        self._window_s: Final = window_s
        self._changed: Final = threading.Condition()
        self._loads = 0
        self._spells = 0  # of quiet; a window that a load fell into is of no use
        self._stopping = False
        self._thread: Final = threading.Thread(target=self._run, name="spare", daemon=True)

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
    def in_use(self) -> Iterator[None]:
        """Look away during the block: something of this process takes what is to spare. From any thread."""
        with self._changed:
            self._loads += 1
            self._spells += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._loads -= 1
                self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._look():
                pass
        except (OSError, ValueError, IndexError) as error:
            _LOG.info("the cores' time cannot be read, so loads take it that some is to spare: %s", error)
            self.share = 1.0

    def _look(self) -> bool:
        """Take one window, if no load falls into it; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or not self._loads)
            spell, before = self._spells, ticks()
            self._changed.wait_for(lambda: self._stopping or self._spells != spell, self._window_s)
            if self._spells == spell and not self._stopping:
                after = ticks()
                self.share = (after[0] - before[0]) / max(1, after[1] - before[1])
            return not self._stopping


def ticks() -> tuple[int, int]:
    """Return the idle and all clock ticks of the cores since the start. Raises OSError, ValueError, IndexError."""
    counts = [int(word) for word in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return counts[3] + counts[4], sum(counts)
