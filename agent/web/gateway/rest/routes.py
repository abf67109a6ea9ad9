"""The gateway's HTTP routes: who asks, what for, and how it ends."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from agent import __version__
from agent.messages.web.requests import Port
from agent.web.gateway.core import tensors
from agent.web.gateway.core.catalog import Version
from agent.web.gateway.core.faults import RequestError, invalid, not_found
from agent.web.gateway.core.pictures.headers import MEDIA
from agent.web.gateway.core.service import EXTENSIONS, MOST_BYTES, Admitted, GatewayService
from agent.web.gateway.core.wishes import wish_of
from agent.web.gateway.rest import openapi
from agent.web.gateway.rest.answers import HEADER_LENGTH, inferred, json_of, refusal
from agent.web.gateway.rest.bodies import body_of, whole
from agent.web.gateway.rest.infer_body import InferBody, parse
from agent.web.gateway.rest.sending import Sending
from agent.web.serving.http_server import SUBJECT, TIE

_log: Final = logging.getLogger(__name__)
_SMALL_BYTES: Final = 1 << 20
_PICTURES: Final = frozenset({*MEDIA, "image/jpg", "image/pjpeg"})
"""Content types of pictures, with two that are no registered names of JPEG, and in use."""
_Body = TypeVar("_Body")
_MODEL, _OF_VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


class Asked:
    """One request of a client that is let in."""

    def __init__(self, request: Request, service: GatewayService, admitted: Admitted) -> None:
        self.request: Final = request
        self.service: Final = service
        self.client: Final = admitted.client
        self._admitted: Final = admitted

    def model(self) -> Version:
        """Return the model that the path names. Raises RequestError("not_found")."""
        path = self.request.path_params
        one = self.service.catalog.resolve(self.client, path["model"], path.get("version", ""))
        self._admitted.counted.model = one.reference
        return one

    async def body(self, most_bytes: int = MOST_BYTES) -> bytes:
        """Return the body. Raises RequestError."""
        return await body_of(self.request, self._admitted.held, self.service, most_bytes)

    async def json(self, kind: type[_Body], wrong: str = "") -> _Body:
        """Return a small body, an object of JSON or nothing. Raises RequestError, of `wrong` for other values."""
        content = await self.body(_SMALL_BYTES)
        try:
            return msgspec.json.decode(content if content.strip() else b"{}", type=kind)
        except msgspec.ValidationError as error:
            raise invalid(wrong or f"the body: {error}") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise invalid(f"the body: {error}") from None


class _IndexBody(msgspec.Struct):
    ready: bool = False


class _LoadBody(msgspec.Struct):
    parameters: dict[str, Any] | None = None


Answer = Callable[[Asked], Awaitable[Response]]


class _Endpoint:
    """One path, with what answers each method."""

    def __init__(self, service: GatewayService, answers: dict[str, Answer]) -> None:
        self._service: Final = service
        self._answers: Final = answers
        self.methods: Final = tuple(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        request, sending = Request(scope, receive), Sending(scope, send)
        scope[TIE]()  # because the client's next requests wait for this one's place
        response: Response | None = None
        try:
            authorization = request.headers.get("authorization", "")
            # A browser presents its certificate to any page's request; those that change something have an Origin.
            subject = "" if "origin" in request.headers else request.scope.get(SUBJECT, "")
            with self._service.request(authorization, subject) as admitted:
                await sending.run(await self._answered(request, admitted), admitted.held)
        except RequestError as error:
            response = refusal(error)
        except Exception:  # noqa: BLE001 - the loop's edge: a request must not end its connection without an answer
            _log.exception("event=request_crashed path=%r", request.url.path[:200])
            response = json_of({"error": "the gateway failed; its log says how"}, 500)
        if response is not None and not sending.has_begun:
            await response(scope, receive, send)

    async def _answered(self, request: Request, admitted: Admitted) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        answer = self._answers.get(method)
        if answer is not None:
            return await answer(Asked(request, self._service, admitted))
        if not self._answers:
            raise not_found(request.url.path[:200])
        admitted.counted.outcome = "unsupported"
        allow = {"Allow": ", ".join(self._answers)}
        return json_of({"error": f"{request.method[:16]} is not for this path"}, 405, allow)


def routes(service: GatewayService) -> list[BaseRoute]:
    """Return the gateway's routes; whatever else begins with /v2 is not there, for those who are let in."""
    table: list[tuple[str, dict[str, Answer]]] = [
        ("/v2", {"GET": _server}),
        ("/v2/", {"GET": _server}),
        ("/v2/openapi.json", {"GET": _openapi}),
        ("/v2/health/live", {"GET": _live}),
        ("/v2/health/ready", {"GET": _ready}),
        ("/v2/repository/index", {"POST": _index}),
        ("/v2/repository/models/{model}/load", {"POST": _load}),
        ("/v2/repository/models/{model}/unload", {"POST": _unload}),
    ]
    for path in (_MODEL, _OF_VERSION):
        table += [
            (path, {"GET": _metadata}),
            (f"{path}/ready", {"GET": _model_ready}),
            (f"{path}/infer", {"POST": _infer}),
            (f"{path}/detect", {"POST": _detect}),
        ]
    table.append(("/v2/{rest:path}", {}))
    return [Route(path, _Endpoint(service, answers)) for path, answers in table]


async def _server(_: Asked) -> Response:
    return json_of({"name": "changeover", "version": __version__, "extensions": EXTENSIONS})


async def _openapi(_: Asked) -> Response:
    return json_of(openapi.document())


async def _live(_: Asked) -> Response:
    return json_of({"live": True})


async def _ready(asked: Asked) -> Response:
    if not asked.service.is_ready(asked.client):
        return json_of({"ready": False, "error": "a worker starts"}, 503)
    return json_of({"ready": True})


async def _model_ready(asked: Asked) -> Response:
    one = asked.model()
    if not asked.service.is_model_ready(asked.client, one):
        return json_of({"name": one.path, "ready": False, "error": "the model is not in memory"}, 503)
    return json_of({"name": one.path, "ready": True})


async def _metadata(asked: Asked) -> Response:
    one = asked.model()
    signature = await asked.service.signature(asked.client, one)
    content: dict[str, Any] = {
        "name": asked.request.path_params["model"],
        "versions": asked.service.catalog.versions_of(asked.client, one),
        "platform": signature.platform,
        "inputs": [_port(port) for port in signature.inputs],
        "outputs": [_port(port) for port in signature.outputs],
    }
    if signature.is_detector:
        content["parameters"] = {
            "task": signature.task,
            "labels": signature.names,
            "confidence": signature.confidence,
            "iou": signature.iou,
            "imgsz": signature.imgsz,
        }
    return json_of(content)


async def _infer(asked: Asked) -> Response:
    one = asked.model()
    body, outputs = await _inferred(asked, one)  # and not the request's bytes, which may go now
    head = {"model_name": asked.request.path_params["model"], "model_version": one.version}
    if body.id:
        head["id"] = body.id
    is_binary = body.is_binary and not body.wish.outputs
    binary = frozenset(output.name for output in outputs) if is_binary else body.named
    size_bytes = sum(len(output.raw) for output in outputs)
    return await asked.service.aside(size_bytes, partial(inferred, head, outputs, binary))


async def _inferred(asked: Asked, one: Version) -> tuple[InferBody, list[tensors.Tensor]]:
    """Return a request without its inputs, and its outputs."""
    length = asked.request.headers.get(HEADER_LENGTH)
    content = await asked.body()
    if length is not None and whole(length) == 0:
        signature = await asked.service.signature(asked.client, one)
        body = InferBody.of_raw(tensors.of_raw(signature.inputs, content, one.path))
    else:
        body = await asked.service.aside(len(content), partial(parse, content, length))
    return replace(body, inputs=[]), await asked.service.infer(asked.client, one, body.inputs, body.wish)


async def _detect(asked: Asked) -> Response:
    began_s = time.monotonic()
    one = asked.model()
    wish = wish_of(dict(asked.request.query_params))
    media = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media.startswith("image/") and media not in _PICTURES:
        raise RequestError("media", f"{media[:64]!r}; JPEG, PNG and WebP are understood")
    found = await asked.service.detect(asked.client, one, await asked.body(), wish)
    took_ms = round((time.monotonic() - began_s) * 1000, 1)
    text = found.text[:-1] + b',"latency_ms":%s}' % str(took_ms).encode()
    times = {"Server-Timing": f"decode;dur={found.decode_ms:.2f}, infer;dur={found.infer_ms:.2f}"}
    return Response(text, headers=times, media_type="application/json")


async def _index(asked: Asked) -> Response:
    body = await asked.json(_IndexBody, "Invalid value for 'ready': expected a boolean")  # Triton's words
    return json_of(asked.service.index(asked.client, only_ready=body.ready))


async def _load(asked: Asked) -> Response:
    one = asked.model()
    if (await asked.json(_LoadBody)).parameters:
        raise RequestError("unsupported", "parameters: a model is loaded as the catalog has it")
    await asked.service.load(asked.client, one)
    return json_of({})


async def _unload(asked: Asked) -> Response:
    one = asked.model()
    await asked.json(dict[str, Any])
    await asked.service.unload(asked.client, one)
    return json_of({})


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": list(port.shape)}
