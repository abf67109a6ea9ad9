"""Tells whether an inference for which nobody waits fits between the frames of all streams."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

_NS: Final = 1_000_000_000


class Timed(Protocol):
    """Frame timing of one stream; times in ns of CLOCK_MONOTONIC."""

    @property
    def is_busy(self) -> bool:
        """True while a frame of the stream waits or is inferred."""

    @property
    def taken_ns(self) -> int:
        """Time at which the newest frame was taken."""

    @property
    def period_ns(self) -> int:
        """Usual time from one frame to the next; 0 where it is unknown."""


class Slack:
    """The time until the next frame is due. Threading: any thread."""

    def __init__(self, streams: Iterable[Timed], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._streams: Final = tuple(streams)
        self._clock_ns: Final = clock_ns

    def fits(self, duration_s: float) -> bool:
        """Return True where no frame is in work, and none is due within `duration_s`.

        A stream that is late by more than a period is quiet, so that nothing is known of its next frame.
        """
        now_ns = self._clock_ns()
        return all(self._has_room(one, now_ns, int(duration_s * _NS)) for one in self._streams)

    def is_idle(self) -> bool:
        """Return True where no frame of any stream waits or is inferred."""
        return not any(one.is_busy for one in self._streams)

    @staticmethod
    def _has_room(one: Timed, now_ns: int, duration_ns: int) -> bool:
        if one.is_busy:
            return False
        left_ns = one.taken_ns + one.period_ns - now_ns
        is_quiet = not one.period_ns or left_ns < -one.period_ns
        return is_quiet or left_ns >= duration_ns
