"""The Open Inference Protocol v2 over gRPC, of a running agent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.protocol import Stream
from grpclib.utils import Wrapper
from hypothesis import given
from hypothesis import strategies as st
from support.gateway_plant import TOKENS, GatewayPlant, jpeg

from agent.messages.web import byte_elements
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.grpc.schema import METHODS, SERVICE, Messages, Untyped
from agent.web.gateway.grpc.wire import require_proportionate

MESSAGES = Messages()
NUMBER = MESSAGES["InferParameter"](int64_param=2)


class Caller:
    """A client of the service."""

    def __init__(self, channel: Channel, token: str) -> None:
        self._channel = channel
        self._token = token

    async def __call__(self, name: str, /, **fields: Untyped) -> Untyped:
        taken, given = MESSAGES[f"{name}Request"], MESSAGES[f"{name}Response"]
        method: UnaryUnaryMethod[Any, Any] = UnaryUnaryMethod(self._channel, f"/{SERVICE}/{name}", taken, given)
        metadata = {"authorization": f"Bearer {self._token}"} if self._token else {}
        until_s = time.monotonic() + 60
        while True:
            try:
                return await method(taken(**fields), metadata=metadata, timeout=60)
            except GRPCError as error:
                # a busy machine's first inference may be longer than what the line leaves, until that estimate has aged
                is_late = time.monotonic() > until_s or "the lines leave no" not in (error.message or "")
                if error.status is not Status.UNAVAILABLE or is_late:
                    raise
            await asyncio.sleep(0.2)


def run(plant: GatewayPlant, asks: Callable[[Caller], Awaitable[Any]], token: str = TOKENS["mes"]) -> Untyped:
    async def ask() -> Untyped:
        channel = Channel("127.0.0.1", plant.grpc_port)
        try:
            return await asks(Caller(channel, token))
        finally:
            channel.close()

    return asyncio.run(ask())


def affine(**changed: Untyped) -> dict[str, Any]:
    x, k = np.array([[1, 2, 3, 4]], np.float32), np.array([10, 20, 30, 40], np.int64)
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4]}, {"name": "k", "datatype": "INT64", "shape": [4]}]
    return {"model_name": "affine", "inputs": inputs, "raw_input_contents": [x.tobytes(), k.tobytes()], **changed}


def test_little_comes_before_its_request_holds_it(plant: GatewayPlant) -> None:
    async def windows() -> tuple[int, int]:
        channel = Channel("127.0.0.1", plant.grpc_port)
        try:
            await Caller(channel, TOKENS["mes"])("ServerLive")
            http2 = (await channel.__connect__()).connection._connection
            return http2.remote_settings.initial_window_size, http2.outbound_flow_control_window
        finally:
            channel.close()

    of_stream, of_connection = asyncio.run(windows())
    assert of_stream <= 1 << 19
    assert of_connection <= 1 << 20


def test_every_method_answers(plant: GatewayPlant) -> None:
    async def asks(call: Caller) -> None:
        assert (await call("ServerLive")).live
        assert (await call("ServerReady")).ready
        assert (await call("ServerMetadata")).name == "changeover"
        await call("RepositoryModelLoad", model_name="affine")
        assert (await call("ModelReady", name="affine")).ready
        metadata = await call("ModelMetadata", name="affine", version="1")
        first = metadata.inputs[0]
        assert (first.name, first.datatype, list(first.shape)) == ("x", "FP32", [1, 4])
        index = await call("RepositoryIndex", ready=True)
        assert "affine:n" in [one.name for one in index.models]
        await call("RepositoryModelUnload", model_name="affine")
        assert not (await call("ModelReady", name="affine")).ready

    run(plant, asks)


def test_tensors_raw_and_typed(plant: GatewayPlant) -> None:
    async def asks(call: Caller) -> None:
        raw = await call("ModelInfer", id="9", **affine())
        assert (raw.id, raw.model_version) == ("9", "1")
        found = dict(zip((one.name for one in raw.outputs), raw.raw_output_contents, strict=True))
        assert np.frombuffer(found["y"], np.float32).tolist() == [12, 24, 36, 48]
        typed = affine(raw_input_contents=[], outputs=[{"name": "kk"}])
        typed["inputs"][0]["contents"] = {"fp32_contents": [1, 2, 3, 4]}
        typed["inputs"][1]["contents"] = {"int64_contents": [10, 20, 30, 40]}
        answer = await call("ModelInfer", **typed)
        assert [one.name for one in answer.outputs] == ["kk"]
        assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [20, 40, 60, 80]

    run(plant, asks)


def test_a_picture_in_and_objects_out(plant: GatewayPlant) -> None:
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [1]}]

    async def asks(call: Caller) -> Untyped:
        raw = [byte_elements.joined([jpeg(256, 192)])]
        parameters = {"confidence": MESSAGES["InferParameter"](double_param=0.5)}
        return await call(
            "ModelInfer", model_name="alpha", inputs=inputs, raw_input_contents=raw, parameters=parameters
        )

    answer = run(plant, asks)
    found = dict(zip((one.name for one in answer.outputs), answer.raw_output_contents, strict=True))
    assert np.frombuffer(found["boxes"], np.float32).tolist() == [32, 32, 160, 160]
    assert byte_elements.split(found["labels"]) == [b"a-good"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (affine(model_name="none"), Status.NOT_FOUND),
        (affine(model_version="7"), Status.NOT_FOUND),
        (affine(raw_input_contents=[b"x"]), Status.INVALID_ARGUMENT),
        (affine(raw_input_contents=[b"x", b"y"]), Status.INVALID_ARGUMENT),
        (affine(outputs=[{"name": "z"}]), Status.INVALID_ARGUMENT),
        (affine(inputs=[], raw_input_contents=[]), Status.INVALID_ARGUMENT),
        (affine(model_name="affine:"), Status.NOT_FOUND),
        (affine(outputs=[{"name": "y", "parameters": {"classification": NUMBER}}]), Status.INVALID_ARGUMENT),
        (affine(outputs=[{"name": "y", "parameters": {"shared_memory_byte_size": NUMBER}}]), Status.UNIMPLEMENTED),
    ],
)
def test_what_is_wrong_has_its_status(plant: GatewayPlant, fields: dict[str, Any], status: Status) -> None:
    async def asks(call: Caller) -> Untyped:
        return await call("ModelInfer", **fields)

    with pytest.raises(GRPCError) as refused:
        run(plant, asks)
    assert refused.value.status is status


def test_a_message_that_is_too_large_is_refused_before_it_is_read(plant: GatewayPlant) -> None:
    async def asks(call: Caller) -> Untyped:
        return await call("ModelInfer", **affine(raw_input_contents=[bytes(40 << 20), b""]))

    with pytest.raises(GRPCError) as refused:
        run(plant, asks)
    assert refused.value.status is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", METHODS)
def test_no_method_answers_without_a_token(plant: GatewayPlant, name: str) -> None:
    for token in ("", "wrong" * 8):
        with pytest.raises(GRPCError) as refused:
            run(plant, lambda call: call(name), token)
        assert refused.value.status is Status.UNAUTHENTICATED


def test_a_model_of_others_is_not_there(plant: GatewayPlant) -> None:
    async def asks(call: Caller) -> Untyped:
        return await call("ModelMetadata", name="affine")

    with pytest.raises(GRPCError) as refused:
        run(plant, asks, TOKENS["narrow"])
    assert refused.value.status is Status.NOT_FOUND


class Raw:
    """One call of a client that sends the bytes it likes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send(self, content: bytes, *, ends: bool = False) -> None:
        await self._stream.send_data(content, end_stream=ends)

    async def status(self) -> int:
        """Return the status that the call ends with."""
        found = dict(await asyncio.wait_for(self._stream.recv_headers(), 60))
        if "grpc-status" not in found:
            found = dict(await asyncio.wait_for(self._stream.recv_trailers(), 60))
        return int(found["grpc-status"])


async def raw_call(channel: Channel, name: str) -> Raw:
    protocol = await channel.__connect__()
    stream = protocol.processor.connection.create_stream(wrapper=Wrapper())
    headers = {":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/{name}", ":authority": "box"}
    headers |= {"te": "trailers", "content-type": "application/grpc", "authorization": f"Bearer {TOKENS['mes']}"}
    await stream.send_request(list(headers.items()), _processor=protocol.processor)
    return Raw(stream)


def raw(plant: GatewayPlant, asks: Callable[[Channel], Awaitable[Any]]) -> Untyped:
    async def ask() -> Untyped:
        channel = Channel("127.0.0.1", plant.grpc_port)
        try:
            return await asks(channel)
        finally:
            channel.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("content", [b"\0\0", b"\0\0\0\0\x10abc", b"\0\0\0\0\x03\xff\xff\xff"])
@pytest.mark.parametrize("name", ["ModelInfer", "ModelStreamInfer", "ServerLive"])
def test_a_message_that_ends_early_is_the_clients_mistake(plant: GatewayPlant, name: str, content: bytes) -> None:
    async def asks(channel: Channel) -> int:
        call = await raw_call(channel, name)
        await call.send(content, ends=True)
        return await call.status()

    is_answered = name == "ModelStreamInfer" and content.endswith(b"\xff")  # it ends no stream of requests
    assert raw(plant, asks) == (Status.OK if is_answered else Status.INVALID_ARGUMENT).value
    assert "Traceback" not in plant.agent.log()


@pytest.mark.parametrize("name", ["ModelInfer", "ModelStreamInfer"])
def test_messages_count_from_their_first_bytes_on(plant: GatewayPlant, name: str) -> None:
    async def asks(channel: Channel) -> int:
        calls = [await raw_call(channel, name) for _ in range(4)]
        for call in calls:
            await call.send(b"\0" + (32 << 20).to_bytes(4, "big"))
        ends = [asyncio.ensure_future(call.status()) for call in calls]
        done, others = await asyncio.wait(ends, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        for one in others:
            one.cancel()
        return next(iter(done)).result()

    assert raw(plant, asks) == Status.RESOURCE_EXHAUSTED.value  # beyond the client's part


@pytest.mark.parametrize(
    "content", [b"\x2a\x00" * (1 << 20), b"\x08\x01" * (3 << 20), b"\x2a\x80\x80\x80\x04" + bytes(8 << 20)]
)
def test_a_message_that_would_grow_is_refused_before_it_is_parsed(content: bytes) -> None:
    with pytest.raises(RequestError):
        require_proportionate(content)


@given(st.binary(max_size=64))
def test_bytes_of_any_kind_are_bounded_or_refused(content: bytes) -> None:
    with suppress(RequestError):  # and no other exception
        require_proportionate(content)


def test_raw_tensors_of_32_mib_are_no_matter() -> None:
    require_proportionate(
        MESSAGES["ModelInferRequest"](**affine(raw_input_contents=[bytes(32 << 20)])).SerializeToString()
    )
