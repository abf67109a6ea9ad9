"""Bodies of HTTP requests: bounded in bytes and in time, also when they are compressed."""

import asyncio
import zlib
from functools import partial
from io import BytesIO
from typing import Final

from starlette.requests import ClientDisconnect, Request

from agent.web.gateway.core.faults import RequestError, invalid
from agent.web.gateway.core.held_bytes import Held
from agent.web.gateway.core.service import MOST_BYTES, GatewayService

_WHOLE_S: Final = 30.0
"""Time for a whole body."""
_MOST_DIGITS: Final = 20
_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Of zlib, by the content's coding."""
_MOST_MEMBERS: Final = 16
"""A gzip body may be several files in a row; each costs a copy of what is behind it."""


async def body_of(request: Request, held: Held, service: GatewayService, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the whole body, decompressed; it is held then. Raises RequestError for one that is too large or slow."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", "", *_WINDOWS}:
        raise RequestError("media", f"Content-Encoding {coding[:32]!r}; gzip, deflate and identity are understood")
    length = whole(request.headers.get("content-length", ""))
    if length is not None and length > most_bytes:
        raise _too_large(most_bytes)
    held.resize(length if length is not None and coding not in _WINDOWS else most_bytes)
    come = BytesIO()
    try:
        await held.moving(_read(request, come, most_bytes), come.tell, _WHOLE_S)
    except (TimeoutError, asyncio.TimeoutError):
        raise invalid(f"the body did not come within {_WHOLE_S:g} s") from None
    except ClientDisconnect:
        raise invalid("the client went away") from None
    content = come.getvalue()  # the same bytes, not a copy
    come.close()
    if coding in _WINDOWS:
        content = await service.aside(most_bytes, partial(_decompressed, content, coding, most_bytes))
    held.resize(len(content))
    return content


def whole(text: str) -> int | None:
    """Return the number of a header that counts bytes, None where it is no such number."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


async def _read(request: Request, come: BytesIO, most_bytes: int) -> None:
    async for chunk in request.stream():
        come.write(chunk)
        if come.tell() > most_bytes:
            raise _too_large(most_bytes)


def _decompressed(content: bytes, coding: str, most_bytes: int) -> bytes:
    """Decompress a body, never more than `most_bytes` of it."""
    whole = b""
    for _ in range(_MOST_MEMBERS if coding != "deflate" else 1):
        reader = zlib.decompressobj(_WINDOWS[coding])
        try:
            whole += reader.decompress(content, most_bytes + 1 - len(whole))
        except zlib.error:
            raise invalid(f"the body is not {coding}") from None
        if len(whole) > most_bytes:
            raise _too_large(most_bytes)
        if not reader.eof:
            raise invalid(f"the {coding} body ends early")
        content = reader.unused_data
        if not content:
            return whole
    raise invalid(f"the body has {len(content)} bytes behind its {coding} data")


def _too_large(most_bytes: int) -> RequestError:
    if most_bytes < MOST_BYTES:  # Triton's words
        detail = f"request JSON size exceeds the maximum allowed input size of {most_bytes >> 10} KiB"
        return RequestError("too_large", detail)
    return RequestError("too_large", f"a body of more than {most_bytes >> 20} MiB")
