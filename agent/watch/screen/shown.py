"""Formats published values as short texts for the screen, without control characters."""

from datetime import datetime
from typing import Final

from rich.text import Text

from agent.messages.texts.printable import printable

GOOD: Final = "green"
BUSY: Final = "yellow"
BAD: Final = "red"
_LONGEST: Final = 200
_MIB: Final = 2**20
_MANY: Final = 2**50
_OF_WORDS: Final = {
    "ready": GOOD,
    "online": GOOD,
    "switched": GOOD,
    "preparing": BUSY,
    "switching": BUSY,
    "degraded": BUSY,
    "ended": BUSY,
    "superseded": BUSY,
    "rejected": BUSY,
    "stopped": BUSY,
    "fault": BAD,
    "failed": BAD,
    "stalled": BAD,
    "offline": BAD,
}


def text(value: object, style: str = "") -> Text:
    """Return one line without control characters, cut with an ellipsis; `-` for an empty value."""
    raw = "-" if value is None or value == "" else str(value)[:_LONGEST]
    return Text(printable(raw), style, no_wrap=True, overflow="ellipsis")


def word(value: str | None) -> Text:
    """Return a state, such as `ready` or `fault`, in its colour."""
    return text(value, _OF_WORDS.get(value or "", ""))


def number(value: float | None, style: str = "") -> Text:
    """Return a number without decimals; `-` for None."""
    return text(None if value is None else f"{_within(value):.0f}", style)


def rate(value: float) -> Text:
    """Return a rate with one decimal."""
    return text(f"{_within(value):.1f}")


def duration(value_ms: float | None, style: str = "") -> Text:
    """Return milliseconds as `0`, `4.2 ms`, `31 ms` or `1.2 s`; `-` for None."""
    if value_ms is None:
        return text(None)
    value_ms = _within(value_ms)
    if value_ms == 0:
        return text("0", style)
    if value_ms < 9.95:  # noqa: PLR2004 - one decimal below ten
        return text(f"{value_ms:.1f} ms", style)
    return text(f"{value_ms:.0f} ms" if value_ms < 999.5 else f"{value_ms / 1000:.1f} s", style)  # noqa: PLR2004 - a second


def age(value_s: float) -> str:
    """Return an age as `0.4 s`, `12 s`, `5 min` or `3 h`."""
    value_s = _within(value_s)
    if value_s < 9.95:  # noqa: PLR2004 - one decimal below ten
        return f"{value_s:.1f} s"
    if value_s < 120:  # noqa: PLR2004 - seconds up to two minutes
        return f"{value_s:.0f} s"
    return f"{value_s / 60:.0f} min" if value_s < 7200 else f"{value_s / 3600:.0f} h"  # noqa: PLR2004 - minutes up to two hours


def mib(value_bytes: float) -> str:
    """Return bytes as whole MiB, the unit in which a memory budget is configured."""
    return f"{_within(value_bytes) / _MIB:.0f}"


def clock(utc: str) -> str:
    """Return the local time of day of a UTC timestamp; an invalid timestamp stays as it is."""
    try:
        return datetime.fromisoformat(utc.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError):
        return utc[11:19]


def _within(value: float) -> float:
    """Limit a published number, so that its text fits a column."""
    return max(-_MANY, min(_MANY, value))
