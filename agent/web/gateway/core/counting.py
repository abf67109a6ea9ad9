"""Counts of requests, told to control once a second."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from agent.messages.web.control import Outcome, RequestCount, RequestsCounted
from agent.web.gateway.core.faults import RequestError
from agent.web.serving.control_link import ControlLink

_EVERY_S: Final = 1.0
_ROWS: Final = 4096
_BATCH: Final = 512


@dataclass
class Counted:
    """A request under way; whoever handles it says whose it is, and of which model."""

    client: str = ""
    model: str = ""
    outcome: Outcome = "ok"
    """Outcome of an answer without RequestError."""


class Counting:
    """Counter of requests by client, model and outcome. For the event loop's thread."""

    def __init__(self, control: ControlLink) -> None:
        self._control: Final = control
        self._totals: Final[dict[tuple[str, str, Outcome], tuple[int, float]]] = {}
        self._changed: Final[set[tuple[str, str, Outcome]]] = set()

    @contextmanager
    def request(self) -> Iterator[Counted]:
        """Run the block as one request, and count how it ends."""
        counted, began_s = Counted(), time.monotonic()
        outcome: Outcome = "failed"
        try:
            yield counted
            outcome = counted.outcome
        except RequestError as error:
            outcome = error.kind
            raise
        except asyncio.CancelledError:
            outcome = "busy"  # the client went away before its answer
            raise
        finally:
            self._add((counted.client, counted.model, outcome), time.monotonic() - began_s)

    async def run(self) -> None:
        """Tell control what has changed, once a second."""
        while True:
            await asyncio.sleep(_EVERY_S)
            while self._changed:
                keys = [self._changed.pop() for _ in range(min(_BATCH, len(self._changed)))]
                rows = tuple(RequestCount(*key, *self._totals[key]) for key in keys)
                self._control.send(RequestsCounted(rows))

    def _add(self, key: tuple[str, str, Outcome], seconds: float) -> None:
        if key not in self._totals and len(self._totals) >= _ROWS:
            return
        count, total_s = self._totals.get(key, (0, 0.0))
        self._totals[key] = (count + 1, total_s + seconds)
        self._changed.add(key)
