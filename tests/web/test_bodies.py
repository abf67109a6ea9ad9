"""Bodies of requests: held once, and decompressed beside the event loop."""

import asyncio
import gzip
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from starlette.requests import Request

from agent.web.gateway.core.clients import Clients
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.held_bytes import HeldBytes
from agent.web.gateway.core.service import GatewayService
from agent.web.gateway.rest.bodies import body_of

PIECE = bytes(64 << 10)
Made = TypeVar("Made")


class Service(GatewayService):
    """A service of nobody that notes on which threads it has work done."""

    def __init__(self) -> None:
        nobody = cast("Any", None)
        super().__init__(Clients(()), nobody, nobody, {})
        self.threads: list[threading.Thread] = []

    async def aside(self, size_bytes: int, make: Callable[[], Made]) -> Made:
        def noted() -> Made:
            self.threads.append(threading.current_thread())
            return make()

        return await super().aside(size_bytes, noted)


def read(pieces: list[bytes], service: GatewayService, coding: str = "identity", length: str = "") -> bytes:
    """Return the body of a request that comes in pieces."""
    left = list(pieces)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    headers = [(b"content-encoding", coding.encode()), (b"content-length", length.encode())]
    scope = {"type": "http", "headers": headers}
    contents: list[bytes] = []

    async def collect() -> None:  # because asyncio.run writes a result out as text
        with HeldBytes(1).of("mes") as held:
            contents.append(await body_of(Request(scope, receive), held, service))

    asyncio.run(collect())
    return contents[0]


@pytest.mark.parametrize("length", ["33554433", "99999999999999999999"])
def test_a_length_that_is_too_large_is_refused_before_the_body_comes(length: str) -> None:
    with pytest.raises(RequestError, match="a body of more than 32 MiB"):
        read([], Service(), length=length)


def test_a_body_is_in_memory_once() -> None:
    pieces = [PIECE] * 128
    read(pieces, Service())  # what is loaded at the first one
    tracemalloc.start()
    try:
        content = read(pieces, Service())
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(content) == 128 * len(PIECE)
    assert most_bytes < 1.5 * len(content)


def test_a_body_is_decompressed_beside_the_event_loop() -> None:
    service = Service()
    assert read([gzip.compress(PIECE)], service, "gzip") == PIECE
    assert service.threads
    assert threading.current_thread() not in service.threads
