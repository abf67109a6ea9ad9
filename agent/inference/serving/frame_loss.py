"""Counts the frames of one stream, and those that a swap lost."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

STEADY_S: Final = 5.0
_STEP_NS: Final = 250_000_000
_SAMPLES: Final = int(STEADY_S * 1e9) // _STEP_NS + 1


@dataclass(frozen=True)
class FrameLossMark:
    """The counts of a stream at one moment."""

    offered: int
    lost: int
    loss: float
    """Share of the frames, 0 to 1, that the stream was losing steadily until then."""


class FrameLossCounter:
    """Counter of a stream's frames, and of those without an inference.

    Threading: `discard` and `tick` are for the stream's threads; the others may be called from any.
    """

    def __init__(self, read_slot: Callable[[], tuple[int, int]]) -> None:
        """Store the function; it returns how many frames the slot was offered, and how many it overwrote unread."""
        self._read_slot: Final = read_slot
        self._discarded = 0
        self._samples: Final[deque[tuple[int, int, int]]] = deque(maxlen=_SAMPLES)

    def tick(self, now_ns: int) -> None:
        """Record a sample for the steady rate; called once a frame."""
        if not self._samples or now_ns - self._samples[-1][0] >= _STEP_NS:
            self._samples.append((now_ns, *self._now()))

    def discard(self) -> None:
        """Count a taken frame without an answer: torn, or its inference failed."""
        self._discarded += 1

    @property
    def period_ns(self) -> int:
        """Usual time from one offered frame to the next, over the last seconds; 0 where it is unknown."""
        samples = self._samples.copy()
        if len(samples) < 2:  # noqa: PLR2004 - a rate needs two samples
            return 0
        (first_ns, first, _), (last_ns, last, _) = samples[0], samples[-1]
        return (last_ns - first_ns) // (last - first) if last > first else 0

    def mark(self, now_ns: int) -> FrameLossMark:
        """Return the present counts, with the steady loss of the last STEADY_S seconds (0 without frames)."""
        offered, lost = self._now()
        oldest_ns = now_ns - int(STEADY_S * 1e9)
        samples = (sample[1:] for sample in self._samples.copy() if sample[0] >= oldest_ns)
        first_offered, first_lost = next(samples, (offered, lost))
        span = offered - first_offered
        return FrameLossMark(offered, lost, (lost - first_lost) / span if span else 0.0)

    def lost_since(self, mark: FrameLossMark) -> int:
        """Return the frames without an inference since `mark`, beyond the steady loss.

        The formula is max(0, lost - ceil(loss x offered)), both since the mark; rounding up keeps a steady stream at 0.
        """
        offered, lost = self._now()
        return max(0, lost - mark.lost - ceil(mark.loss * (offered - mark.offered)))

    def _now(self) -> tuple[int, int]:
        offered, overwritten = self._read_slot()
        return offered, overwritten + self._discarded
