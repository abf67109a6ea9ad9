"""Reads the bodies of requests, within a bound."""

import asyncio
from typing import Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from agent.messages.errors import MistakeError

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_WHOLE_S: Final = 10.0
"""Time for a whole body."""


class RefusedError(MistakeError):
    """A request that is answered with an HTTP status and a word."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status: Final = status


async def read_json(request: Request, type_: type[_Struct], longest_bytes: int) -> _Struct:
    """Read a request's body as `type_`. Raises an error that says how the request is to be refused."""
    # With another content type a foreign page's form could send it without asking the browser's leave.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError(415, "expected_json")
    try:
        body = await asyncio.wait_for(_read(request, longest_bytes), _WHOLE_S)
    except (TimeoutError, asyncio.TimeoutError):
        raise RefusedError(408, "too_slow") from None
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, RecursionError):
        raise RefusedError(400, "not_understood") from None


async def _read(request: Request, longest_bytes: int) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > longest_bytes:
                raise RefusedError(413, "too_large")
    except ClientDisconnect:
        raise RefusedError(400, "not_understood") from None
    return bytes(body)
