"""UTC text, the form of every time in a payload."""

from datetime import datetime, timezone


def utc_text(unix_s: float) -> str:
    """Format a Unix time as UTC with milliseconds, such as `2026-01-01T06:00:00.000Z`."""
    moment = datetime.fromtimestamp(unix_s, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_text_of_ns(unix_ns: int) -> str:
    """Format a Unix time in nanoseconds as `utc_text` does; what is below a millisecond is cut off."""
    return utc_text(unix_ns // 1_000_000 / 1000)
