"""Working source without a camera, which passes the same tests as the real ones."""

from collections.abc import Callable
from typing import Final

from agent.capture.source import Buffer, SourceInfo
from agent.messages.errors import TransientError

HEIGHT: Final = 48
WIDTH: Final = 64


class DummySource:
    """Test source of `frames` frames, each filled with its index from 0; after the last, a live source fails.

    `before` is called before every open and grab, to advance a clock or to raise.
    """

    def __init__(self, frames: int, *, live: bool = False, before: Callable[[], None] = lambda: None) -> None:
        self.name = "dummy"
        self.live = live
        self._frames: Final = frames
        self._before: Final = before
        self._next = 0

    def open(self) -> SourceInfo:
        """Rewind to the first frame."""
        self._before()
        self._next = 0
        return SourceInfo(width=WIDTH, height=HEIGHT, fps=0.0)

    def grab(self) -> bool:
        """Advance to the next frame; False after the last. Raises TransientError there instead where `live`."""
        self._before()
        if self._next == self._frames:
            if self.live:
                raise TransientError(f"{self.name} gave no more frames")
            return False
        self._next += 1
        return True

    def retrieve(self, buffer: Buffer) -> None:
        """Fill the buffer with the frame's value."""
        buffer(HEIGHT, WIDTH).fill((self._next - 1) % 256)

    def close(self) -> None:
        """Do nothing, because nothing is held open."""
