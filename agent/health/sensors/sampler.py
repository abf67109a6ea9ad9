"""Sampler that reads a slow source on its own thread, so that its readers never wait."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from agent.health.probes import ProbeAbsentError
from agent.processes.backoff import Backoff

_log: Final = logging.getLogger(__name__)
_STOP_S: Final = 0.2
_LONGEST_RETRY_S: Final = 60.0

Value = TypeVar("Value")


def _nothing() -> None:
    """Close nothing."""


class Sampler(Generic[Value]):
    """One source on one thread; the newest value replaces older ones.

    A read that hangs blocks this thread alone, and `newest` becomes None once it is stale. A failed read is retried
    with backoff; ProbeAbsentError ends the thread. Owner: the caller of `start` and `stop`.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Value],
        interval_s: float,
        close: Callable[[], None] = _nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store the source; `close` is called on the thread after its last read."""
        self.name: Final = name
        self._read: Final = read
        self._interval_s: Final = interval_s
        self._close: Final = close
        self._clock: Final = clock
        self._newest: tuple[float, Value] | None = None
        self._backoff: Final = Backoff(interval_s, _LONGEST_RETRY_S)
        self._hurry: Final = threading.Event()
        self._is_stopping = False
        self._thread: Final = threading.Thread(target=self._run, name=f"sampler {name}", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present read; one that hangs is abandoned."""
        self._is_stopping = True
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)

    def hurry(self) -> None:
        """Read again at once, because the subject has changed."""
        self._hurry.set()

    def newest(self, now_s: float, max_age_s: float) -> Value | None:
        """Return the last value; None where it is older than `max_age_s`. For any thread."""
        newest = self._newest
        return newest[1] if newest is not None and now_s - newest[0] <= max_age_s else None

    def age_s(self, now_s: float) -> float | None:
        """Return the seconds since the last value was read; None without one."""
        newest = self._newest
        return max(0.0, now_s - newest[0]) if newest is not None else None

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._hurry.wait(self._step())
                self._hurry.clear()
        except ProbeAbsentError as error:
            _log.info("event=source_absent source=%s detail=%r", self.name, str(error))
        finally:
            self._close()

    def _step(self) -> float:
        """Read once; return the delay until the next read."""
        try:
            value = self._read()
        except ProbeAbsentError:
            raise
        except Exception as error:  # noqa: BLE001 - the loop's edge: sources raise whatever they like
            _log.warning("event=source_failed source=%s detail=%r", self.name, f"{type(error).__name__}: {error}")
            return max(self._interval_s, self._backoff.next_s())
        self._newest = (self._clock(), value)
        self._backoff.reset()
        return self._interval_s
