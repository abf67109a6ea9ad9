"""Clients that send or read slowly keep nobody else from being served."""

import asyncio
import json
import select
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import pytest
from grpclib import GRPCError
from grpclib.client import Channel, UnaryUnaryMethod
from starlette.responses import Response
from support.gateway_plant import TOKENS, GatewayPlant, jpeg
from support.waiting import until

from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.held_bytes import HeldBytes
from agent.web.gateway.grpc.schema import SERVICE, Messages, Untyped
from agent.web.gateway.rest import sending
from agent.web.serving.http_server import ABORT

MESSAGES = Messages()
LARGE_BYTES = 32 << 20
SLOW = ("narrow", "slow", "single")
SOON_S = 20.0
"""Less than a body may take."""


@contextmanager
def slow_bodies(plant: GatewayPlant) -> Iterator[list[socket.socket]]:
    """Have each of three clients begin the largest body, and never end it."""
    with ExitStack() as stack:
        begun = []
        for name in SLOW:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", plant.port), 60))
            head = f"POST /v2/models/alpha/detect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS[name]}\r\n"
            one.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % LARGE_BYTES + jpeg())
            begun.append(one)
        yield begun


def large_infer() -> tuple[bytes, dict[str, str]]:
    """Return a request of raw pixels that is beyond its client's part of the memory."""
    pixels = bytes(2000 * 3000 * 3)
    image = {"name": "image", "shape": [2000, 3000, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**image, "parameters": {"binary_data_size": len(pixels)}}]}).encode()
    return head + pixels, {"Inference-Header-Content-Length": str(len(head))}


def test_three_slow_clients_keep_nobody_from_being_served(plant: GatewayPlant) -> None:
    body, headers = large_infer()
    with slow_bodies(plant) as begun, plant.client() as client:
        answered, _, _ = select.select(begun, (), (), SOON_S)  # none has sent what it announced
        assert [one.recv(64)[:13] for one in answered] == [b"HTTP/1.1 503 "]
        for _ in range(20):
            assert client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200
        # what slow ones hold beyond their part is there for others, after a moment of grace
        until(lambda: client.post("/v2/models/alpha/infer", content=body, headers=headers).status_code == 200, SOON_S)


def test_the_same_over_grpc(plant: GatewayPlant) -> None:
    async def run(statuses: list[int]) -> None:
        request = MESSAGES["ModelInferRequest"]
        async with AsyncExitStack() as stack:
            for name in SLOW:
                channel = await stack.enter_async_context(Channel("127.0.0.1", plant.grpc_port))
                method: UnaryUnaryMethod[Untyped, Untyped] = UnaryUnaryMethod(
                    channel, f"/{SERVICE}/ModelInfer", request, MESSAGES["ModelInferResponse"]
                )
                call = await stack.enter_async_context(
                    method.open(metadata={"authorization": f"Bearer {TOKENS[name]}"})
                )
                await call.send_request()
                await call._stream.send_data(b"\0" + LARGE_BYTES.to_bytes(4, "big") + bytes(1000))
                stack.push_async_callback(call.cancel)
            with plant.client() as client:
                for _ in range(20):
                    answer = await asyncio.to_thread(client.post, "/v2/models/alpha/detect", content=jpeg())
                    statuses.append(answer.status_code)

    statuses: list[int] = []
    with pytest.raises(GRPCError, match="requests of others hold too many bytes"):  # the third of them
        asyncio.run(run(statuses))
    assert statuses == [200] * 20


@pytest.fixture
def ledger() -> HeldBytes:
    return HeldBytes(1)


def answer_to_a_slow_reader(ledger: HeldBytes, pieces: int) -> tuple[str, int, int, bool]:
    """Send an answer of 32 MiB to a client that reads so many pieces only.

    Returns the refusal, the largest piece, the bytes that are held after it, and whether the connection was ended.
    """
    largest, ended = 0, False

    def abort() -> None:
        nonlocal ended
        ended = True

    async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        nonlocal pieces, largest
        pieces -= 1
        largest = max(largest, len(message.get("body", b"")))
        if pieces < 0:
            await asyncio.Event().wait()

    async def run() -> str:
        with ledger.of("mes") as held:
            try:
                await sending.Sending({ABORT: abort}, send).run(Response(bytes(LARGE_BYTES)), held)
            except RequestError as error:
                return error.kind
            return ""

    kind = asyncio.run(run())
    left_bytes = sum(one.bytes for held in ledger._held.values() for one in held)
    return kind, largest, left_bytes, ended


def test_an_answer_that_is_not_read_ends_with_its_connection(
    ledger: HeldBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_WHOLE_S", 0.05)
    assert answer_to_a_slow_reader(ledger, 3) == ("limited", 64 << 10, 0, True)
    assert answer_to_a_slow_reader(ledger, 0) == ("limited", 0, 0, True)


def test_an_answer_that_is_read_arrives_whole(ledger: HeldBytes) -> None:
    assert answer_to_a_slow_reader(ledger, LARGE_BYTES) == ("", 64 << 10, 0, False)
