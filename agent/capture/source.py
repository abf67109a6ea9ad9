"""What every source offers, whatever its kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.messages.errors import TransientError

Image = NDArray[np.uint8]
# Gives a (height, width, 3) uint8 BGR array to fill; asking again puts the one before back.
Buffer = Callable[[int, int], Image]
Warn = Callable[[str], None]


class SilentError(TransientError):
    """No frame came in time from what is live; grabbing again goes on waiting for one."""


@dataclass(frozen=True)
class Patience:
    """Timeouts of a network camera, to open and to bring its next frame, in seconds.

    `first_frame`: it is open only once a frame came; not so where something triggers it.
    """

    open_s: float = 10.0
    read_s: float = 3.0
    first_frame: bool = True


@dataclass(frozen=True)
class SourceInfo:
    """What was opened: size of its first frame in pixels and its own rate, each 0 where it does not say."""

    width: int
    height: int
    fps: float


class Source(Protocol):
    """One camera, file or folder; for one thread. Opened, read to its end or till it breaks, closed, opened again.

    `name` says what it is, fit to be shown: without credentials. `live`: a frame that is not grabbed in time is gone.
    `open` and `grab` may block for as long as their Patience, and raise TransientError or MistakeError. `grab` raises
    SilentError, a TransientError, where the source is as it was and only no frame came.
    """

    name: str
    live: bool

    def open(self) -> SourceInfo:
        """Open, at the first frame."""
        ...

    def grab(self) -> bool:
        """Wait for the next frame; False at the end of a file or folder, never for what is live."""
        ...

    def retrieve(self, buffer: Buffer) -> None:
        """Decode the grabbed frame into what `buffer` gives for its size."""
        ...

    def close(self) -> None:
        """Let go of it; closing what is not open does nothing."""
        ...
