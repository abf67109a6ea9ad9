"""Keeps the order of one stream's answers while its frames are inferred concurrently."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class Sequencer:
    """Runs `with` blocks in the order of their numbers; each number from `number` must be used for one block."""

    def __init__(self) -> None:
        self._given = 0
        self._next = 0
        self._turn: Final = threading.Condition()

    def number(self) -> int:
        """Return the next number; one thread at a time."""
        self._given += 1
        return self._given - 1

    @contextmanager
    def after_those_before(self, number: int) -> Iterator[None]:
        """Run the `with` block after the blocks of all lower numbers."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == number)
        try:
            yield
        finally:
            with self._turn:
                self._next += 1
                self._turn.notify_all()

    def wait_all(self) -> None:
        """Wait until the blocks of all numbers given so far have ended."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == self._given)
