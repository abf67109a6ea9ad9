"""Every request is counted by client, model and outcome, those that are refused among them."""

import asyncio
from collections import Counter
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from agent.messages.children import Message
from agent.messages.web.control import RequestsCounted, WebClient
from agent.web.gateway.core import counting
from agent.web.gateway.core.catalog import CatalogView
from agent.web.gateway.core.clients import Clients
from agent.web.gateway.core.counting import Counting
from agent.web.gateway.core.service import GatewayService
from agent.web.gateway.rest.routes import routes
from agent.web.serving.documents import DocumentStore
from agent.web.serving.http_server import SUBJECT, TIE

Asked = tuple[str, str, str]
"""Method and path, and the subject of the client's certificate."""


class Control:
    """Control, as the counter sees it."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, str, str]] = Counter()
        self.has_heard = asyncio.Event()

    def send(self, message: Message) -> None:
        assert isinstance(message, RequestsCounted)
        for one in message.counts:
            self.counted[one.client, one.model, one.outcome] = one.count
        self.has_heard.set()


async def counts(asked: list[Asked]) -> dict[tuple[str, str, str], int]:
    """Return what is counted of requests over HTTP, of a device without models."""
    control = Control()
    counter = Counting(cast("Any", control))
    clients = Clients((WebClient("mes", "", "CN=mes", ("*",), 1.0, 2, "default"),))
    app = Starlette(routes=routes(GatewayService(clients, CatalogView(DocumentStore()), counter, {})))
    subject = ""

    async def with_subject(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, SUBJECT: subject, TIE: lambda: None}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(with_subject), base_url="http://box") as client:
        for method, path, subject in asked:  # noqa: B007 - `with_subject` reads it
            await client.request(method, path)
    telling = asyncio.create_task(counter.run())
    await asyncio.wait_for(control.has_heard.wait(), 10)
    telling.cancel()
    return dict(control.counted)


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        (("GET", "/v2", "CN=mes"), ("mes", "", "ok")),
        (("PUT", "/v2/models/cap/infer", "CN=mes"), ("mes", "", "unsupported")),
        (("GET", "/v2/models/cap", "CN=mes"), ("mes", "", "not_found")),
        (("GET", "/v2/nothing", "CN=mes"), ("mes", "", "not_found")),
        (("GET", "/v2", "CN=other"), ("", "", "unauthorized")),
    ],
)
def test_a_request_is_counted_as_it_ends(
    asked: Asked, counted: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_EVERY_S", 0.0)
    assert asyncio.run(counts([asked])) == {counted: 1}


def test_a_refusal_by_the_rate_is_counted_by_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_EVERY_S", 0.0)
    found = asyncio.run(counts([("GET", "/v2", "CN=mes")] * 2))
    assert found == {("mes", "", "ok"): 1, ("mes", "", "limited"): 1}
