"""Waiting for events, with one generous deadline for all tests."""

import time
from collections.abc import Callable
from typing import Final

DEADLINE_S: Final = 60.0
"""Far beyond what a loaded machine needs: only a test that fails waits for it."""


def until(is_done: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Poll until `is_done` is true; fail after `deadline_s`."""
    limit_s = time.monotonic() + deadline_s
    while not is_done():
        assert time.monotonic() < limit_s, f"not within {deadline_s:g} s"
        time.sleep(0.005)
