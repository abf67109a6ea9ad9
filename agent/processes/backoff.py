"""Exponential backoff with full jitter and a cap, shared by every retry loop."""

import random
from typing import Final

FIRST_S: Final = 0.2
CAP_S: Final = 5.0


class Backoff:
    """Delays drawn evenly from 0 to a bound that doubles with each attempt, up to a cap; for one thread.

    Full jitter, so that devices and streams that failed together do not retry together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    def __init__(self, first_s: float = FIRST_S, cap_s: float = CAP_S, chance: random.Random | None = None) -> None:
        """`first_s` bounds the first delay, `cap_s` every delay; tests pass a seeded `chance`."""
        self._first_s: Final = first_s
        self._cap_s: Final = cap_s
        self._chance: Final = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._bound_s = min(first_s, cap_s)

    def next_s(self) -> float:
        """Return the delay before the next attempt, and double the bound."""
        bound_s = self._bound_s
        self._bound_s = min(self._cap_s, 2 * bound_s)
        return self._chance.uniform(0, bound_s)

    def next_at_cap_s(self) -> float:
        """Return a random delay of up to `cap_s`, for errors that a retry alone cannot cure."""
        self._bound_s = self._cap_s
        return self.next_s()

    def reset(self) -> None:
        """Reset the bound to `first_s` after a successful attempt."""
        self._bound_s = min(self._first_s, self._cap_s)
