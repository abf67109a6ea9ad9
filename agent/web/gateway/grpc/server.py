"""The gRPC server of the gateway."""

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from agent import __version__
from agent.messages.web.control import Outcome
from agent.web.gateway.core.catalog import Version
from agent.web.gateway.core.clients import Client
from agent.web.gateway.core.counting import Counted
from agent.web.gateway.core.faults import RequestError, invalid
from agent.web.gateway.core.held_bytes import ENVELOPE_BYTES, Held
from agent.web.gateway.core.service import EXTENSIONS, MOST_BYTES, GatewayService
from agent.web.gateway.grpc.contents import add_outputs, inputs_of, wish_in
from agent.web.gateway.grpc.schema import METHODS, SERVICE, Messages, Untyped
from agent.web.gateway.grpc.wire import require_proportionate
from agent.web.serving.tls import subject_of

_log: Final = logging.getLogger(__name__)
_STATUS: Final[dict[Outcome, Status]] = {
    "unauthorized": Status.UNAUTHENTICATED,
    "not_found": Status.NOT_FOUND,
    "invalid": Status.INVALID_ARGUMENT,
    "too_large": Status.RESOURCE_EXHAUSTED,
    "media": Status.INVALID_ARGUMENT,
    "unsupported": Status.UNIMPLEMENTED,
    "limited": Status.RESOURCE_EXHAUSTED,
    "busy": Status.UNAVAILABLE,
    "failed": Status.INTERNAL,
}
_HEAD: Final = struct.Struct(">BI")
_WHOLE_S: Final = 30.0
_WINDOWS: Final = Configuration(http2_stream_window_size=512 << 10, http2_connection_window_size=1 << 20)
"""Bytes that may come before a request holds its message, beside the ledger of `HeldBytes`."""

Call = Callable[["GrpcServer", Client, Counted, Untyped], Awaitable[Untyped]]


class GrpcServer:
    """Serves the protocol's calls; the same service as over HTTP answers them."""

    def __init__(self, service: GatewayService) -> None:
        self._service: Final = service
        self._messages: Final = Messages()

    async def serve(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve on a bound socket, until the process ends."""
        server = Server([self], config=_WINDOWS)
        await server.start(sock=listener, ssl=context)
        await server.wait_closed()

    def __mapping__(self) -> dict[str, Handler]:
        """Return the handler of each path, as grpclib asks for it."""
        handlers: dict[str, Handler] = {}
        for name in METHODS:
            taken, given = self._messages[f"{name}Request"], self._messages[f"{name}Response"]
            handlers[f"/{SERVICE}/{name}"] = Handler(
                partial(self._answer_one, _CALLS[name], taken), Cardinality.UNARY_UNARY, taken, given
            )
        taken, given = self._messages["ModelInferRequest"], self._messages["ModelStreamInferResponse"]
        handlers[f"/{SERVICE}/ModelStreamInfer"] = Handler(self._stream, Cardinality.STREAM_STREAM, taken, given)
        return handlers

    async def _answer_one(self, call: Call, taken: Untyped, stream: "Stream[Any, Any]") -> None:
        try:
            with self._request(stream) as admitted:
                size_bytes = await asyncio.wait_for(_only_size(stream), _WHOLE_S)
                request = _parsed(taken, await _content(stream, size_bytes, admitted.held))
                answer = await call(self, admitted.client, admitted.counted, request)
                del request
                await _send(stream, answer, admitted.held)
        except RequestError as error:
            raise _refusal(error) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise GRPCError(Status.DEADLINE_EXCEEDED, "the request did not come in time") from None
        except GRPCError:
            raise
        except Exception:  # noqa: BLE001 - the loop's edge
            raise _crashed() from None

    async def _stream(self, stream: "Stream[Any, Any]") -> None:
        """Answer requests one after the other."""
        while await self._answer_next(stream):
            continue  # with nothing of the last one in memory, because the next may come much later

    async def _answer_next(self, stream: "Stream[Any, Any]") -> bool:
        """Answer one request of a stream; return False at its end.

        The refusal of a request that is read is an answer; others end the stream.
        """
        taken, given = self._messages["ModelInferRequest"], self._messages["ModelStreamInferResponse"]
        may_go_on = False
        try:
            with self._request(stream) as admitted:
                size_bytes = await _next_size(stream)
                if size_bytes is None:
                    return False
                content = await _content(stream, size_bytes, admitted.held)
                may_go_on = True
                request = _parsed(taken, content)
                del content  # it is as large as the request made of it
                answer = given(infer_response=await _infer(self, admitted.client, admitted.counted, request))
                may_go_on = False
                del request
                await _send(stream, answer, admitted.held)
                return True
        except RequestError as error:
            if not may_go_on or error.kind == "too_large":
                raise _refusal(error) from None
            refused = given(error_message=str(error))
        except GRPCError:
            raise
        except Exception:  # noqa: BLE001 - the loop's edge
            raise _crashed() from None
        await stream.send_message(refused)
        return True

    def _request(self, stream: "Stream[Any, Any]") -> Any:  # noqa: ANN401 - a context manager of the service
        metadata: Any = stream.metadata  # a dictionary of several values a key, for which grpclib has no type
        authorization = metadata.get("authorization", "") if metadata else ""
        text = authorization if isinstance(authorization, str) else ""
        return self._service.request(text, subject_of(stream.peer.cert()))

    def resolve(self, client: Client, counted: Counted, name: str, version: str) -> Version:
        """Return the model that a request names. Raises RequestError("not_found")."""
        one = self._service.catalog.resolve(client, name, version)
        counted.model = one.reference
        return one

    @property
    def service(self) -> GatewayService:
        """The service that answers."""
        return self._service

    def made(self, message: str, **fields: Any) -> Untyped:  # noqa: ANN401 - of the message's fields
        """Return a message."""
        return self._messages[message](**fields)


async def _next_size(stream: "Stream[Any, Any]") -> int | None:
    """Return the bytes of the next message, None at the stream's end. Raises RequestError for one that is too large.

    grpclib's own reading has no limit, so its stream of bytes is read here.
    """
    head = await _read(stream, _HEAD.size)
    if not head:
        return None
    is_compressed, size_bytes = _HEAD.unpack(head)
    if is_compressed:
        raise RequestError("unsupported", "compressed messages are not understood")
    if size_bytes > MOST_BYTES + ENVELOPE_BYTES:
        raise RequestError("too_large", f"a message of more than {MOST_BYTES >> 20} MiB")
    return int(size_bytes)


async def _only_size(stream: "Stream[Any, Any]") -> int:
    """Return the bytes of a call's only message. Raises RequestError."""
    size_bytes = await _next_size(stream)
    if size_bytes is None:
        raise invalid("the request is missing")
    return size_bytes


async def _content(stream: "Stream[Any, Any]", size_bytes: int, held: Held) -> bytes:
    """Return a message's bytes, held from now on.

    Raises RequestError for one that ends early or finds no room, GRPCError for one that is too slow.
    """
    held.resize(size_bytes)
    received = _Progress(stream, "data_received")
    try:
        content = await held.moving(_read(stream, size_bytes), received, _WHOLE_S)
    except (TimeoutError, asyncio.TimeoutError):
        raise GRPCError(Status.DEADLINE_EXCEEDED, "the request did not come in time") from None
    if len(content) != size_bytes:
        raise invalid("the message ends early")
    return content


async def _send(stream: "Stream[Any, Any]", answer: Untyped, held: Held) -> None:
    """Send an answer, whose bytes are held meanwhile.

    Raises RequestError where there is no room for them, GRPCError where the client reads too slowly.
    """
    held.resize(answer.ByteSize())
    try:
        await held.moving(stream.send_message(answer), _Progress(stream, "data_sent"), _WHOLE_S)
    except (TimeoutError, asyncio.TimeoutError):
        raise GRPCError(Status.DEADLINE_EXCEEDED, "the answer was not read in time") from None


class _Progress:
    """Bytes that a stream has moved since now, by one of grpclib's counts."""

    def __init__(self, stream: "Stream[Any, Any]", count: str) -> None:
        self._stream: Final = _bytes_of(stream)
        self._count: Final = count
        self._before: Final = getattr(self._stream, count)

    def __call__(self) -> int:
        return int(getattr(self._stream, self._count) - self._before)


def _parsed(taken: Untyped, content: bytes) -> Untyped:
    """Return a message. Raises RequestError for one that is broken, or would grow beyond its bytes."""
    require_proportionate(content)
    try:
        return taken.FromString(content)
    except DecodeError:
        raise invalid("the message is no protobuf of its kind") from None


async def _read(stream: "Stream[Any, Any]", size_bytes: int) -> bytes:
    try:
        return bytes(await _bytes_of(stream).recv_data(size_bytes))
    except AssertionError:  # grpclib's way to say so
        raise invalid("the message ends early") from None


def _bytes_of(stream: "Stream[Any, Any]") -> Any:  # noqa: ANN401 - of grpclib, which has no public name for it
    """Return grpclib's stream of bytes below one of messages."""
    return stream._stream  # noqa: SLF001 - tests/architecture/test_private_names.py


def _crashed() -> GRPCError:
    """Return the last resort's answer to a request that failed by a mistake of ours, which the log tells."""
    _log.exception("event=request_crashed transport=grpc")
    return GRPCError(Status.INTERNAL, "the gateway failed; its log says how")


def _refusal(error: RequestError) -> GRPCError:
    hint = f"; phase {error.phase}" if error.phase else ""
    hint += f", {error.eta_ms:.0f} ms left" if error.eta_ms else ""
    return GRPCError(_STATUS[error.kind], f"{error}{hint}")


async def _server_live(server: GrpcServer, _client: Client, _counted: Counted, _: Untyped) -> Untyped:
    return server.made("ServerLiveResponse", live=True)


async def _server_ready(server: GrpcServer, client: Client, _counted: Counted, _: Untyped) -> Untyped:
    return server.made("ServerReadyResponse", ready=server.service.is_ready(client))


async def _model_ready(server: GrpcServer, client: Client, counted: Counted, request: Untyped) -> Untyped:
    one = server.resolve(client, counted, request.name, request.version)
    return server.made("ModelReadyResponse", ready=server.service.is_model_ready(client, one))


async def _server_metadata(server: GrpcServer, _client: Client, _counted: Counted, _: Untyped) -> Untyped:
    return server.made("ServerMetadataResponse", name="changeover", version=__version__, extensions=EXTENSIONS)


async def _model_metadata(server: GrpcServer, client: Client, counted: Counted, request: Untyped) -> Untyped:
    one = server.resolve(client, counted, request.name, request.version)
    signature = await server.service.signature(client, one)
    versions = server.service.catalog.versions_of(client, one)
    answer = server.made("ModelMetadataResponse", name=request.name, versions=versions, platform=signature.platform)
    for ports, field in ((signature.inputs, answer.inputs), (signature.outputs, answer.outputs)):
        for port in ports:
            field.add(name=port.name, datatype=port.datatype, shape=port.shape)
    return answer


async def _infer(server: GrpcServer, client: Client, counted: Counted, request: Untyped) -> Untyped:
    one = server.resolve(client, counted, request.model_name, request.model_version)
    outputs = await server.service.infer(client, one, inputs_of(request), wish_in(request))
    answer = server.made("ModelInferResponse", model_name=request.model_name, model_version=one.version, id=request.id)
    add_outputs(answer, outputs)
    return answer


async def _index(server: GrpcServer, client: Client, _counted: Counted, request: Untyped) -> Untyped:
    answer = server.made("RepositoryIndexResponse")
    for row in server.service.index(client, only_ready=request.ready):
        answer.models.add(**row)
    return answer


async def _load(server: GrpcServer, client: Client, counted: Counted, request: Untyped) -> Untyped:
    if request.parameters:
        raise RequestError("unsupported", "parameters: a model is loaded as the catalog has it")
    await server.service.load(client, server.resolve(client, counted, request.model_name, ""))
    return server.made("RepositoryModelLoadResponse")


async def _unload(server: GrpcServer, client: Client, counted: Counted, request: Untyped) -> Untyped:
    await server.service.unload(client, server.resolve(client, counted, request.model_name, ""))
    return server.made("RepositoryModelUnloadResponse")


_CALLS: Final[dict[str, Call]] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ModelReady": _model_ready,
    "ServerMetadata": _server_metadata,
    "ModelMetadata": _model_metadata,
    "ModelInfer": _infer,
    "RepositoryIndex": _index,
    "RepositoryModelLoad": _load,
    "RepositoryModelUnload": _unload,
}
