"""Hash-based random numbers, which make a frame a pure function of its time."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def unit(*keys: int) -> float:
    """Return a number in [0, 1) that depends on the keys alone (splitmix64)."""
    state = 0
    for key in keys:
        state = _mixed((state ^ (key & _MASK)) + 0x9E3779B97F4A7C15)
    return (state >> 11) / float(1 << 53)


def between(low: float, high: float, *keys: int) -> float:
    """Return a number in [low, high) that depends on the keys alone."""
    return low + (high - low) * unit(*keys)


def _mixed(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
