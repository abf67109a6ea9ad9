"""The time of day in which downloads may run."""

import datetime as dt
import zoneinfo
from collections.abc import Callable
from typing import Final

from agent.settings.fields.sources import is_open, window_of

_DAY: Final = dt.timedelta(days=1)


class Window:
    """A daily period such as "22:00-05:00" in a time zone; an empty text is always open."""

    def __init__(self, text: str, timezone: str = "", clock: Callable[[], dt.datetime] | None = None) -> None:
        zone = zoneinfo.ZoneInfo(timezone) if timezone else None
        self._clock: Final = clock or (lambda: dt.datetime.now(dt.timezone.utc))
        self._zone: Final = zone
        self._period: Final = window_of(text)

    def opens_in_s(self) -> float:
        """Return the seconds until downloads may run; 0 where they may now."""
        if self._period is None:
            return 0.0
        now = self._clock().astimezone(self._zone)
        if is_open(self._period, now.time()):
            return 0.0
        first, _ = self._period
        opens = now.replace(hour=first.hour, minute=first.minute, second=first.second, microsecond=0)
        return ((opens if opens > now else opens + _DAY) - now).total_seconds()
