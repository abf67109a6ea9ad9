"""Plausibility checks for readings, because sources change their units between releases."""

import math
from typing import Final

_COLDEST_C, _HOTTEST_C = -55.0, 150.0
_MOST_W: Final = 2000.0
LEAST_LIMIT_C: Final = 40.0
"""Lowest plausible throttling temperature; a lower trip point controls a fan or is a placeholder."""


def celsius(value: object) -> float | None:
    """Return a temperature in °C; None for an implausible one (offline sensors give -256)."""
    return _within(value, _COLDEST_C, _HOTTEST_C)


def limit_c(value: object) -> float | None:
    """Return a throttling temperature in °C; None for an implausible one."""
    return _within(value, LEAST_LIMIT_C, _HOTTEST_C)


def watts(value: object) -> float | None:
    """Return a power in W; None for an implausible one."""
    return _within(value, 0.0, _MOST_W)


def share(value: object) -> float | None:
    """Return a share from 0 to 1; None for any other value."""
    return _within(value, 0.0, 1.0)


def _within(value: object, least: float, most: float) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value) if least <= value <= most else None
