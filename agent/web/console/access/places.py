"""Places for open pages: a bound for all, and one for each session, so that nobody takes them all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST: Final = 32
MOST_EACH: Final = 8
"""More than a browser keeps open to one device."""


class Places:
    """Counter of what is open, by session. For one thread."""

    def __init__(self) -> None:
        self._taken: Final[Counter[str]] = Counter()

    def has_for(self, token: str) -> bool:
        """Return True where a session may open one more."""
        return sum(self._taken.values()) < MOST and self._taken[token] < MOST_EACH

    @contextmanager
    def taken(self, token: str) -> Iterator[None]:
        """Run the block with one more place taken by a session."""
        self._taken[token] += 1
        try:
            yield
        finally:
            self._taken[token] -= 1
            if not self._taken[token]:
                del self._taken[token]
