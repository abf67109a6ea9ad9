"""The HTTP side as an OpenAPI 3.1 document, from which clients and fuzzers are generated."""

from typing import Any, Final

from agent import __version__
from agent.web.gateway.core import tensors

Untyped = dict[str, Any]
"""A part of the document."""
_TEXT: Final[Untyped] = {"type": "string"}
_NUMBER: Final[Untyped] = {"type": "number"}
_WHOLE: Final[Untyped] = {"type": "integer"}
_FLAG: Final[Untyped] = {"type": "boolean"}
_PARAMETERS: Final[Untyped] = {"type": ["object", "null"]}
_REFUSALS: Final = {
    "400": "A wrong shape, datatype, parameter or body",
    "401": "No good token or certificate",
    "404": "What does not exist, or not for this client",
    "405": "Another method; Allow names those there are",
    "413": "A body that is too large",
    "415": "Another picture, or coding of the body, than is understood",
    "429": "The client's rate, or its requests in flight; Retry-After says when",
    "500": "The model or the gateway failed; the log says how",
    "501": "What the protocol has and this server has not",
    "503": "Loading, no memory, no time, or the worker starts again",
}

_RETRIED: Final = ("429", "503")


def document() -> Untyped:
    """Return the document."""
    paths: Untyped = {
        "/v2": {"get": _call("What the server is", _object(name=_TEXT, version=_TEXT, extensions=_list(_TEXT)))},
        "/v2/openapi.json": {"get": _call("This document", {"type": "object"})},
        "/v2/health/live": {"get": _call("The server runs", _object(live=_FLAG))},
        "/v2/health/ready": {"get": _call("Every worker answers; 503 where not", _object(ready=_FLAG))},
        "/v2/repository/index": {"post": _index()},
        "/v2/repository/models/{model}/load": {"post": _of_repository("Load a model, and keep it for half an hour")},
        "/v2/repository/models/{model}/unload": {"post": _of_repository("Unload a model that no line has")},
    }
    for of in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        paths |= {path: _with_names(of, calls) for path, calls in _of_model(of).items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Changeover: Open Inference Protocol v2", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": _object(["error"], error=_TEXT, phase=_TEXT, eta_ms=_NUMBER),
                "Input": _object(
                    ["name", "shape", "datatype"],
                    name=_TEXT,
                    shape=_list({**_WHOLE, "minimum": 0}),
                    datatype={"enum": [*tensors.SIZES, tensors.BYTES]},
                    parameters=_PARAMETERS,
                    data={"type": "array"},
                ),
                "Output": _object(
                    ["name", "shape", "datatype"],
                    name=_TEXT,
                    shape=_list(_WHOLE),
                    datatype=_TEXT,
                    parameters={"type": "object"},
                    data={"type": "array"},
                ),
            },
        },
    }


def _of_model(path: str) -> Untyped:
    port = _object(name=_TEXT, datatype=_TEXT, shape=_list(_WHOLE))
    metadata = _object(
        ["name", "versions", "platform", "inputs", "outputs"],
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(port),
        outputs=_list(port),
        parameters={"type": "object"},
    )
    return {
        path: {"get": _call("What a model takes and gives", metadata)},
        f"{path}/ready": {"get": _call("The model is in memory; 503 where not", _object(name=_TEXT, ready=_FLAG))},
        f"{path}/infer": {"post": _infer()},
        f"{path}/detect": {"post": _detect()},
    }


def _infer() -> Untyped:
    request = _object(
        ["inputs"],
        id={"type": ["string", "null"]},
        inputs=_list({"$ref": "#/components/schemas/Input"}),
        parameters=_PARAMETERS,
        outputs={**_list(_object(["name"], name=_TEXT, parameters=_PARAMETERS)), "type": ["array", "null"]},
    )
    answer = _object(
        ["model_name", "model_version", "outputs"],
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list({"$ref": "#/components/schemas/Output"}),
    )
    body = _json(request, is_required=True)
    body["content"]["application/octet-stream"] = {"schema": {}}
    call = _call("Infer tensors", answer, body)
    call["responses"]["200"]["content"]["application/octet-stream"] = {}
    length = "Bytes of the JSON before the inputs' raw bytes; 0: the body is the only input"
    call["parameters"] = [_parameter("Inference-Header-Content-Length", "header", _WHOLE, length)]
    return call


def _detect() -> Untyped:
    best = _object(["label", "class", "score"], label=_TEXT, score=_NUMBER, **{"class": _WHOLE})
    numbers = _list(_NUMBER)
    shapes = {"polygons": _list(numbers), "keypoints": _list(numbers), "angle": _NUMBER, "corners": _list(numbers)}
    found = {**best, "properties": {**best["properties"], "box": numbers, **shapes}}
    answer = _object(
        ["model", "width", "height", "objects", "latency_ms"],
        model=_TEXT,
        width=_WHOLE,
        height=_WHOLE,
        objects=_list(found),
        top=_list(best),
        latency_ms=_NUMBER,
    )
    kinds = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
    body = {"required": True, "content": {kind: {"schema": {}} for kind in kinds}}
    call = _call("Find the objects in a picture", answer, body)
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    words = {"confidence": "Least score", "iou": "Overlap of two boxes of one object"}
    call["parameters"] = [_parameter(name, "query", share, text) for name, text in words.items()]
    call["parameters"].append(_parameter("imgsz", "query", _WHOLE, "Side of the model's input in pixels: its own"))
    return call


def _index() -> Untyped:
    row = _object(["name", "version", "state", "reason"], name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)
    return _call("All models", _list(row), _json(_object(ready=_FLAG)))


def _of_repository(summary: str) -> Untyped:
    call = _call(summary, {"type": "object"}, _json(_object(parameters={"type": "object"})))
    call["parameters"] = [_parameter("model", "path", _TEXT, "NAME or NAME:VARIANT")]
    return call


def _with_names(path: str, calls: Untyped) -> Untyped:
    names = [_parameter("model", "path", _TEXT, "NAME or NAME:VARIANT")]
    if "{version}" in path:
        names.append(_parameter("version", "path", _TEXT, "A version of the catalog"))
    return {method: {**call, "parameters": [*names, *call.get("parameters", ())]} for method, call in calls.items()}


def _call(summary: str, answer: Untyped, body: Untyped | None = None) -> Untyped:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses: Untyped = {code: {"description": text, "content": error} for code, text in _REFUSALS.items()}
    for code in _RETRIED:
        responses[code]["headers"] = {"Retry-After": {"description": "Seconds to wait", "schema": _WHOLE}}
    responses["200"] = {"description": summary, "content": {"application/json": {"schema": answer}}}
    call: Untyped = {"summary": summary, "responses": responses}
    return {**call, "requestBody": body} if body is not None else call


def _parameter(name: str, place: str, schema: Untyped, description: str) -> Untyped:
    row: Untyped = {"name": name, "in": place, "schema": schema, "description": description}
    return {**row, "required": True} if place == "path" else row


def _json(schema: Untyped, *, is_required: bool = False) -> Untyped:
    return {"required": is_required, "content": {"application/json": {"schema": schema}}}


def _list(of: Untyped) -> Untyped:
    return {"type": "array", "items": of}


def _object(required: list[str] | None = None, **fields: Untyped) -> Untyped:
    return {"type": "object", "properties": fields, **({"required": required} if required else {})}
