"""The HTTP server of console and gateway."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.web.serving.tls import subject_of

_CONNECTIONS: Final = 256
_FIRST_REQUEST_S: Final = 10.0
"""Time of a new connection for its first request line and headers."""
_KEEP_ALIVE_S: Final = 30
_HEADER_BYTES: Final = 32 * 1024
SUBJECT: Final = "client_subject"
"""Key of a request's scope: the subject of the client's verified certificate."""
ABORT: Final = "abort"
"""Key of a request's scope: a function that ends its connection at once."""


class HttpServer:
    """A uvicorn server on a socket that is bound already."""

    def __init__(self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        self._listener: Final = listener
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="wsproto",
            ws_per_message_deflate=False,  # because JPEG files shrink no further, and each try costs 2 ms a viewer
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            h11_max_incomplete_event_size=_HEADER_BYTES,
        )
        config.load()
        config.ssl = context
        self._server: Final = _Server(config)

    async def serve(self) -> None:
        """Serve until the process ends."""
        await self._server.serve(sockets=[self._listener])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: control ends this process by closing its channel."""
        yield


class _Protocol(H11Protocol):
    """HTTP of one connection: tells the app who the client's certificate names, and ends silent connections."""

    _first: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base
        super().connection_made(transport)
        self._first = self.loop.call_later(_FIRST_REQUEST_S, self._end_if_silent)
        tls = transport.get_extra_info("ssl_object")
        subject = subject_of(tls.getpeercert()) if tls is not None else ""
        app = self.app

        async def with_subject(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, SUBJECT: subject, ABORT: transport.abort}, receive, send)

        self.app = with_subject

    def connection_lost(self, exc: Exception | None) -> None:
        if self._first is not None:
            self._first.cancel()
        super().connection_lost(exc)

    def _end_if_silent(self) -> None:
        is_ours = self.transport.get_protocol() is self  # not after an upgrade to a WebSocket
        if self.cycle is None and is_ours:
            self.transport.close()
