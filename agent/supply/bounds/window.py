"""The time of day in which downloads may run."""

import datetime as dt
import zoneinfo
from collections.abc import Callable
from typing import Final

from agent.settings.units import parse_clock

_DAY: Final = dt.timedelta(days=1)


class Window:
    """A daily period such as "22:00-05:00" in a time zone; an empty text is always open."""

    def __init__(self, text: str, timezone: str = "", clock: Callable[[], dt.datetime] | None = None) -> None:
        zone = zoneinfo.ZoneInfo(timezone) if timezone else None
        self._clock: Final = clock or (lambda: dt.datetime.now(dt.timezone.utc))
        self._zone: Final = zone
        first, _, last = text.partition("-")
        self._period: Final = (parse_clock(first.strip()), parse_clock(last.strip())) if text else None

    def opens_in_s(self) -> float:
        """Return the seconds until downloads may run; 0 where they may now."""
        if self._period is None:
            return 0.0
        first, last = self._period
        now = self._clock().astimezone(self._zone)
        time = now.time()
        if first <= time < last if first < last else time >= first or time < last:
            return 0.0
        opens = now.replace(hour=first.hour, minute=first.minute, second=first.second, microsecond=0)
        return ((opens if opens > now else opens + _DAY) - now).total_seconds()
