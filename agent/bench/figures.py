"""Percentiles, medians and rounding, the same for every benchmark."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

_SHARES: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
_DIGITS: Final = 4  # significant ones; what a shared machine measures has no more


def percentile(values: Iterable[float], share: float) -> float:
    """Return the nearest-rank percentile for `share` from 0 to 100; NaN without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)] if ordered else math.nan


def median(values: Iterable[float]) -> float:
    """Return the median; NaN without values."""
    found = list(values)
    return statistics.median(found) if found else math.nan


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Return p50, p99, maximum and count."""
    return {
        "p50": percentile(values, 50),
        "p99": percentile(values, 99),
        "max": max(values, default=math.nan),
        "count": len(values),
    }


def curve(values: Sequence[float]) -> dict[str, float]:
    """Return the percentiles that a plot draws, by share."""
    return {str(share): percentile(values, share) for share in _SHARES}


def rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value with rounded numbers, and null for NaN (not measured)."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
