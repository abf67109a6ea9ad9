"""HTTP answers: JSON, tensors as JSON or binary data, and refusals by the protocol's map."""

import math
from typing import Any, Final

import msgspec
from starlette.responses import Response

from agent.messages.web.control import Outcome
from agent.web.gateway.core import json_data
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.tensors import Tensor

STATUS: Final[dict[Outcome, int]] = {
    "ok": 200,
    "unauthorized": 401,
    "not_found": 404,
    "invalid": 400,
    "too_large": 413,
    "media": 415,
    "unsupported": 501,
    "limited": 429,
    "busy": 503,
    "failed": 500,
}
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_JSON: Final = "application/json"


def json_of(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON."""
    return Response(msgspec.json.encode(content), status, headers, _JSON)


def refusal(error: RequestError) -> Response:
    """Return the answer that refuses a request."""
    headers: dict[str, str] = {}
    if error.retry_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_s))
    if error.kind == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    content: dict[str, Any] = {"error": str(error)}
    if error.phase:
        content["phase"] = error.phase
    if error.eta_ms is not None:
        content["eta_ms"] = error.eta_ms
    return json_of(content, STATUS[error.kind], headers)


def inferred(head: dict[str, Any], outputs: list[Tensor], binary: frozenset[str]) -> Response:
    """Return the answer to `infer`; the outputs named in `binary` follow the JSON as raw bytes.

    Raises RequestError where the others are too large for JSON, or hold what it cannot.
    """
    json_data.require_small([one for one in outputs if one.name not in binary])
    raw: list[bytes | memoryview] = []
    rows: list[dict[str, Any]] = []
    for one in outputs:
        row: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
        if one.name in binary:
            row["parameters"] = {"binary_data_size": len(one.raw)}
            raw.append(one.raw)
        else:
            row["data"] = json_data.to_values(one)
        rows.append(row)
    text = msgspec.json.encode({**head, "outputs": rows})
    if not raw:
        return Response(text, media_type=_JSON)
    headers = {HEADER_LENGTH: str(len(text))}
    return Response(b"".join((text, *raw)), headers=headers, media_type="application/octet-stream")
