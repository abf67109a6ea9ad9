"""Counts of inference requests by client, model and outcome, over restarts of the web process."""

from collections import OrderedDict
from typing import Final

from agent.messages.web.control import RequestsCounted

_ROWS: Final = 4096
"""Rows kept; names come from configuration and catalog, so only models that come and go add to them."""


class RequestCounts:
    """Totals for the metrics; a web process counts from 0, so its reports are added to those of the ones before."""

    def __init__(self) -> None:
        self._before: Final[OrderedDict[tuple[str, str, str], tuple[int, float]]] = OrderedDict()
        self._now: Final[dict[tuple[str, str, str], tuple[int, float]]] = {}

    def take(self, message: RequestsCounted) -> None:
        """Take the present counts of the web process that runs."""
        for one in message.counts:
            key = (one.client, one.model, one.outcome)
            if key in self._now or len(self._now) < _ROWS:
                self._now[key] = (one.count, one.seconds)

    def restarted(self) -> None:
        """Keep the counts of a web process that is lost, because the next one counts from 0."""
        for key, (count, seconds) in self._now.items():
            before = self._before.pop(key, (0, 0.0))
            self._before[key] = (before[0] + count, before[1] + seconds)
        while len(self._before) > _ROWS:
            self._before.popitem(last=False)
        self._now.clear()

    def totals(self) -> dict[tuple[str, str, str], tuple[int, float]]:
        """Return number and seconds of the requests, by (client, model, outcome)."""
        totals = dict(self._before)
        for key, (count, seconds) in self._now.items():
            before = totals.get(key, (0, 0.0))
            totals[key] = (before[0] + count, before[1] + seconds)
        return totals
