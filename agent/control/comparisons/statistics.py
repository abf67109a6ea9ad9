"""Intervals for shares and means, so that few frames decide nothing."""

import math
from typing import Final

Z: Final = 2.576
"""Standard deviations on each side of a 99 % interval."""


def wilson(hits: float, of: float, z: float = Z) -> tuple[float, float]:
    """Return the interval of Wilson's score for the share `hits` / `of`; (0, 1) without a sample.

    `hits` may be fractional. Source: E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927.
    """
    if of <= 0:
        return 0.0, 1.0
    share = min(max(hits / of, 0.0), 1.0)
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    low, high = (middle - half) / whole, (middle + half) / whole
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # because rounding may leave the share out


def mean_interval(total: float, squares: float, count: int, z: float = Z) -> tuple[float, float]:
    """Return the interval of a mean from the sum and the sum of squares of `count` values; unbounded below two."""
    if count < 2:  # noqa: PLR2004 - one value has no spread
        return -math.inf, math.inf
    mean = total / count
    variance = max(0.0, squares / count - mean * mean) * count / (count - 1)
    half = z * math.sqrt(variance / count)
    return mean - half, mean + half
