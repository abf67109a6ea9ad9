"""Age of the signed index of models, and the alert where a newer one should have come."""

import datetime as dt
from collections.abc import Callable
from typing import Final

from agent.health.interval_timer import IntervalTimer
from agent.messages.events import Noticed
from agent.settings import Settings
from agent.trust.index_state import read_index_state

_INTERVAL_S: Final = 60.0
CODE: Final = "index_stale"


class IndexWatch:
    """Watcher of the index, for the loop's thread; `decide` gets the alert."""

    def __init__(self, settings: Callable[[], Settings], decide: Callable[[Noticed], None]) -> None:
        self._settings: Final = settings
        self._decide: Final = decide
        self._timer: Final = IntervalTimer(_INTERVAL_S)
        self._age_s: float | None = None

    @property
    def age_s(self) -> float | None:
        """Age of the last verified index in seconds; None without one, or where the clock is behind it."""
        return self._age_s

    def tick(self, now_s: float) -> None:
        """Look at the index once a minute."""
        if self._timer.is_due(now_s):
            self._look(dt.datetime.now(dt.timezone.utc))

    def _look(self, now: dt.datetime) -> None:
        settings = self._settings()
        index = read_index_state(settings.device.state_dir) if settings.catalog.root else None
        self._age_s = index.age_s(now) if index is not None else None
        is_stale = index is not None and index.is_stale(now)
        days = (self._age_s or 0.0) / 86_400
        detail = f"the index of models is {days:.0f} days old, and its time is over" if is_stale else None
        self._decide(Noticed(CODE, is_stale, detail))
