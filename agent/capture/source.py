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
"""Called with (height, width); returns a uint8 BGR array (height, width, 3) to fill, valid until the next call."""
Warn = Callable[[str], None]
"""Called with a text for operators that reports a skipped frame."""


class SilentError(TransientError):
    """A live source gave no frame in time; the next `grab` may still succeed."""


@dataclass(frozen=True)
class Patience:
    """Timeouts of a live source."""

    open_s: float = 10.0
    """Longest time for `open`."""
    read_s: float = 3.0
    """Longest time that `grab` waits for a frame."""
    first_frame: bool = True
    """True: `open` waits for a frame; False for a triggered camera."""


@dataclass(frozen=True)
class SourceInfo:
    """Size of a source's first frame in pixels, and its nominal frames per second; 0 where unknown."""

    width: int
    height: int
    fps: float
    decoder: str = ""
    """Decoder of a network stream, such as "FFmpeg (no hardware here decodes mjpeg)"; empty for other sources."""
    is_scaled: bool = False
    """True where frames may be scaled down; boxes then still refer to `width` and `height`."""


class Packet(NamedTuple):
    """One coded frame of a stream."""

    data: bytes
    is_keyframe: bool
    """True where decoding can begin with this packet."""


class Source(Protocol):
    """Camera, file or folder that can be opened, read and closed repeatedly; for one thread.

    `open` and `grab` may block as long as the source's Patience allows, and raise TransientError or MistakeError.
    """

    name: str
    """Name for logs and messages, without credentials."""
    live: bool
    """True where frames that are not grabbed in time are lost."""

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
