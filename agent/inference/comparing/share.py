"""Choice of the frames of a share by their numbers."""

from typing import Final

_TURN: Final = 0x9E3779B9
"""The golden ratio's part of a turn, as a whole number of 32 bits."""
_WHOLE: Final = 1 << 32


def is_of_share(number: int, share: float) -> bool:
    """Return True for the frames of a share from 0 to 1, evenly spread over all and over each regular part of them.

    Frame n is chosen where n turns by the golden ratio end in the first `share` of a turn: so the choice repeats, is
    the same for all cameras of a line, and a camera that delivers only each second frame has the same share.
    """
    return number * _TURN % _WHOLE < share * _WHOLE
