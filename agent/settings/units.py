"""Parsers for sizes, durations, shares and times of day; a ValueError names what was expected."""

import datetime as dt
import re
from typing import Final

import msgspec

_BYTES: Final = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_QUANTITY: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINIMUM_BUDGET_BYTES: Final = 2**20

SIZE: Final = 'a size such as "256MiB" or a number of bytes'
DURATION: Final = 'a duration such as "30s", "12h" or "7d", or a number of seconds'
BUDGET: Final = '"auto", a size such as "900MiB", or a fraction such as 0.4'
CLOCK: Final = 'a time of day such as "22:00"'
DAYS: Final = 'days such as "mon-fri" or "sat,sun"'


class MemoryBudget(msgspec.Struct, frozen=True):
    """Memory budget for loaded models: `bytes`, a `fraction` of available memory, or automatic (both None)."""

    bytes: int | None = None
    fraction: float | None = None

    def resolve(self, available_bytes: int, auto_bytes: int) -> int:
        """Return the budget in bytes: a fraction is of `available_bytes`, and an automatic one is `auto_bytes`."""
        if self.bytes is not None:
            return self.bytes
        return auto_bytes if self.fraction is None else int(available_bytes * self.fraction)

    def __str__(self) -> str:
        if self.bytes is not None:
            return str(self.bytes)
        return "auto" if self.fraction is None else str(self.fraction)


def _quantity(value: object, units: dict[str, float], expected: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(expected)
    number, unit = match.groups()
    factor = units.get(unit.lower()) if unit else 1.0
    if factor is None:
        raise ValueError(expected)
    return float(number) * factor


def parse_size(value: object) -> int:
    """Parse a size in bytes."""
    size_bytes = _quantity(value, {unit: float(factor) for unit, factor in _BYTES.items()}, SIZE)
    if not 0 <= size_bytes < float(2**63):
        raise ValueError(SIZE)
    return int(size_bytes)


def parse_duration(value: object) -> float:
    """Parse a duration in seconds."""
    seconds = _quantity(value, _SECONDS, DURATION)
    if not 0 <= seconds < float("inf"):
        raise ValueError(DURATION)
    return seconds


def parse_budget(value: object) -> MemoryBudget:
    """Parse the setting `device.memory_budget`: "auto", a size or a fraction."""
    if isinstance(value, MemoryBudget):
        return value
    if value == "auto":
        return MemoryBudget()
    amount = _quantity(value, {unit: float(factor) for unit, factor in _BYTES.items()}, BUDGET)
    whole = isinstance(value, int) or (isinstance(value, str) and "." not in value)
    if 0 < amount <= 1 and not whole:
        return MemoryBudget(fraction=amount)
    if not _MINIMUM_BUDGET_BYTES <= amount < float(2**63):
        raise ValueError(BUDGET)
    return MemoryBudget(bytes=int(amount))


def parse_clock(value: object) -> dt.time:
    """Parse a time of day without a zone; "24:00" is midnight."""
    if value == "24:00":
        return dt.time(0)
    if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d(:\d\d)?", value):
        try:
            value = dt.time.fromisoformat(value)
        except ValueError:
            raise ValueError(CLOCK) from None
    if not isinstance(value, dt.time) or value.tzinfo is not None:
        raise ValueError(CLOCK)
    return value


def parse_days(value: object) -> tuple[int, ...]:
    """Parse weekdays, 0 for Monday, sorted: "mon-fri", "fri-mon", "sat,sun", or a list of such."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items:
        raise ValueError(DAYS)
    days: set[int] = set()
    for item in items:
        first, _, last = item.strip().lower().partition("-") if isinstance(item, str) else ("", "", "")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(DAYS)
        start = _DAYS.index(first)
        days.update((start + step) % 7 for step in range((_DAYS.index(last or first) - start) % 7 + 1))
    return tuple(sorted(days))
