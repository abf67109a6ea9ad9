"""Protocol of all sources, and its types."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.messages.errors import TransientError

Image = NDArray[np.uint8]
"""(height, width, 3) in BGR."""
Buffer = Callable[[int, int], Image]
"""Returns a (height, width, 3) uint8 BGR array to fill; a second call takes the first array back."""
Warn = Callable[[str], None]
"""Reports a skipped frame to operators."""


class SilentError(TransientError):
    """A live source gave no frame in time; the next `grab` may still succeed."""


@dataclass(frozen=True)
class Patience:
    """Timeouts of a live source."""

    open_s: float = 10.0
    """From `open` to an open source."""
    read_s: float = 3.0
    """From `grab` to the next frame."""
    first_frame: bool = True
    """Wait for a frame in `open`; False for a triggered camera."""


@dataclass(frozen=True)
class SourceInfo:
    """Size of a source's first frame in pixels and its nominal frame rate; 0 where unknown."""

    width: int
    height: int
    fps: float
    decoder: str = ""
    """Decoder of a network stream, with the reason where it is not the hardware's."""
    is_scaled: bool = False
    """Frames may come smaller than `width` and `height`, and their boxes are in these pixels all the same."""


class Packet(NamedTuple):
    """One coded frame of a stream."""

    data: bytes
    is_keyframe: bool
    """Decoding can begin here."""


class Source(Protocol):
    """Camera, file or folder that can be opened, read and closed repeatedly; for one thread.

    `open` and `grab` may block for the source's Patience, and raise TransientError or MistakeError.
    """

    name: str
    """Text for people, without credentials."""
    live: bool
    """Frames that are not grabbed in time are lost."""

    def open(self) -> SourceInfo:
        """Open the source at its first frame."""
        ...

    def grab(self) -> bool:
        """Wait for the next frame; False at the end of a file or folder, never for a live source.

        Raises SilentError where a live source is intact but gave no frame in time.
        """
        ...

    def retrieve(self, buffer: Buffer) -> None:
        """Decode the grabbed frame into an array from `buffer`."""
        ...

    def close(self) -> None:
        """Close the source; idempotent."""
        ...
