"""Waiting for events, with one generous deadline for all tests."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

DEADLINE_S: Final = 60.0
"""Far beyond what a loaded machine needs: only a test that fails waits for it."""


def until(is_done: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Poll until `is_done` is true; fail after `deadline_s`."""
    limit_s = time.monotonic() + deadline_s
    while not is_done():
        assert time.monotonic() < limit_s, f"not within {deadline_s:g} s"
        time.sleep(0.005)


def together(works: Mapping[str, Callable[[], object]]) -> None:
    """Do works at the same time, because each is mostly waiting; raise an error that names those that failed."""
    with ThreadPoolExecutor(len(works)) as pool:
        failed = {name: done.exception() for name, done in {n: pool.submit(w) for n, w in works.items()}.items()}
    for name, error in failed.items():
        if error is not None:
            raise AssertionError(f"{name}: {error!r}") from error
