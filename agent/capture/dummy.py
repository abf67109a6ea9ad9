"""A source without a camera, that works: by the same rules as the real ones, and breaks where it is told to."""

from collections.abc import Callable
from typing import Final

from agent.capture.source import Buffer, SourceInfo
from agent.messages.errors import TransientError

HEIGHT: Final = 48
WIDTH: Final = 64


class DummySource:
    """`frames` frames, the n-th filled with the value n; live ones break after the last, others end.

    `before` is called before every open and grab, to let time pass or to raise.
    """

    def __init__(self, frames: int, *, live: bool = False, before: Callable[[], None] = lambda: None) -> None:
        self.name = "dummy"
        self.live = live
        self._frames: Final = frames
        self._before: Final = before
        self._next = 0

    def open(self) -> SourceInfo:
        """Start at the first frame."""
        self._before()
        self._next = 0
        return SourceInfo(width=WIDTH, height=HEIGHT, fps=0.0)

    def grab(self) -> bool:
        """Go to the next frame."""
        self._before()
        if self._next == self._frames:
            if self.live:
                raise TransientError(f"{self.name} gave no more frames")
            return False
        self._next += 1
        return True

    def retrieve(self, buffer: Buffer) -> None:
        """Fill with the frame's value."""
        buffer(HEIGHT, WIDTH).fill((self._next - 1) % 256)

    def close(self) -> None:
        """Nothing to let go of."""
