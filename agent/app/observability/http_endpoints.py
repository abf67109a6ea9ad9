"""HTTP endpoints `/metrics` and `/healthz`, answered with a snapshot from control's thread."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Final

from agent.health.metrics.exposition import CONTENT_TYPE, Metrics
from agent.health.metrics.http_server import HttpServer, Page
from agent.health.metrics.snapshot import Facts
from agent.messages.errors import TransientError
from agent.messages.events import Noticed

_log: Final = logging.getLogger(__name__)
_ANSWER_S: Final = 2.0
_RETRY_S: Final = 60.0
_LATE: Final = f"control has not answered for {_ANSWER_S:g} s"
ALERT: Final = "http_unavailable"


@dataclass(frozen=True)
class Asked:
    """Request for a snapshot, enqueued in control's inbox by the HTTP thread."""

    answers: SimpleQueue[Facts]


class HttpEndpoints:
    """Owner of the HTTP server; enqueues one request at a time, because the server has one thread."""

    def __init__(
        self, bind: str, metrics: Metrics, put: Callable[[Asked], None], notice: Callable[[Noticed], None]
    ) -> None:
        """Store the parts; an empty `bind` serves nothing."""
        self._metrics: Final = metrics
        self._put: Final = put
        self._notice: Final = notice
        pages = {"/metrics": self._page_of_metrics, "/healthz": self._page_of_health}
        self._web: Final = HttpServer(bind, pages) if bind else None
        self._retry_s: float | None = None

    @property
    def port(self) -> int:
        """TCP port of the server; 0 where nothing is served."""
        return self._web.port if self._web is not None else 0

    def start(self, now_s: float) -> None:
        """Start the server; on failure raise an alert, and retry each minute."""
        if self._web is None:
            return
        try:
            self._web.start()
        except TransientError as error:
            self._retry_s = now_s + _RETRY_S
            _log.error("event=http_unavailable detail=%r", str(error))
            self._notice(Noticed(ALERT, on=True, detail=str(error)))
            return
        self._retry_s = None
        _log.info("event=http_serving port=%d", self._web.port)
        self._notice(Noticed(ALERT, on=False))

    def stop(self) -> None:
        """Stop the server."""
        if self._web is not None:
            self._web.stop()

    def tick(self, now_s: float) -> None:
        """Retry the start where it is due."""
        if self._retry_s is not None and now_s >= self._retry_s:
            self.start(now_s)

    def _ask(self) -> Facts | None:
        answers: SimpleQueue[Facts] = SimpleQueue()
        self._put(Asked(answers))
        try:
            return answers.get(timeout=_ANSWER_S)
        except Empty:
            return None

    def _page_of_metrics(self) -> Page:
        facts = self._ask()
        if facts is None:
            return Page(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{_LATE}\n".encode())
        return Page(HTTPStatus.OK, CONTENT_TYPE, self._metrics.render(facts))

    def _page_of_health(self) -> Page:
        facts = self._ask()
        wrong = [_LATE] if facts is None else _wrong(facts)
        whole = {"status": "failing" if wrong else "ok", "detail": wrong, **(_seen(facts) if facts else {})}
        status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
        return Page(status, "application/json", json.dumps(whole).encode() + b"\n")


def _wrong(facts: Facts) -> list[str]:
    """Return the faults that a restart may cure, so not a lost broker or camera, nor the fault of one group of many."""
    return [] if any(facts.workers_up.values()) else ["the worker process is down"]


def _seen(facts: Facts) -> dict[str, object]:
    return {
        "broker": facts.link.is_up,
        "lines": {id_: {"phase": one.phase, "ready": one.ready, "live": one.moves} for id_, one in facts.lines.items()},
        "streams": {id_: one.status for id_, one in facts.streams.items()},
        "alerts": sorted({one.code for one in facts.alerts}),
    }
