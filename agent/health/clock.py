"""Whether the wall clock can be believed."""

import ctypes
from typing import Final

_TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised to a reliable server."""
_TIMEX_BYTES: Final = 512
"""More than `struct timex` takes on any Linux; all zeros asks and sets nothing."""


def is_synchronised() -> bool:
    """Return the kernel's own word on it; any NTP client tells the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= int(state) < _TIME_ERROR
