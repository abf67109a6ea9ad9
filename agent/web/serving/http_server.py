"""The HTTP server of console and gateway."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.web.serving.tls import subject_of

_KEEP_ALIVE_S: Final = 30
_HEADER_BYTES: Final = 32 * 1024
_DATE_S: Final = 1.0


class _Stage(Enum):
    """Part of an exchange that a connection waits for."""

    HEAD = auto()
    """A request line and headers, which have begun or are the first."""
    BODY = auto()
    """The rest of a request's body."""
    UNWANTED = auto()
    """The rest of the body of a request that is answered already."""
    OTHER = auto()
    """An answer, the next request, or what another protocol makes of it."""


_TIME_S: Final = {_Stage.HEAD: 10.0, _Stage.BODY: 40.0, _Stage.UNWANTED: 5.0}
"""A body has longer than its routes give it, so that they can say so."""
SUBJECT: Final = "client_subject"
"""Key of a request's scope: the subject of the client's verified certificate."""
ABORT: Final = "abort"
"""Key of a request's scope: a function that ends its connection at once."""
TIE: Final = "tie"
"""Key of a request's scope: a function that has the present task cancelled when the client goes before its answer."""


class HttpServer:
    """A uvicorn server on a socket that is bound already, and bounds its connections."""

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

    async def main_loop(self) -> None:
        """Renew the date of answers each second; the base looks ten times a second for an end that signals ask for."""
        while True:
            await self.on_tick(0)
            await asyncio.sleep(_DATE_S)


class _Protocol(H11Protocol):
    """HTTP of one connection: tells the app who the client's certificate names, and ends what does not get on."""

    _stage: _Stage = _Stage.OTHER
    _request: object = None
    """The request that the stage is of, None before the first."""
    _deadline: asyncio.TimerHandle | None = None
    _answering: asyncio.Task[object] | None = None
    """Task that ends with its client; None where it goes on whatever becomes of that."""
    _has_cancelled = False
    """The client went before its answer, and `_answering` was cancelled for it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        subject = subject_of(tls.getpeercert()) if tls is not None else ""
        app = self.app

        async def with_subject(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app({**scope, SUBJECT: subject, ABORT: self._abort, TIE: self._tie}, receive, send)
            except asyncio.CancelledError:
                if not self._has_cancelled:
                    raise
            finally:
                if self._answering is asyncio.current_task():
                    self._answering = None

        self.app = with_subject
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        self._answering = None  # because an answer may end its connection, and its request counts how it ended
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._enter(_Stage.OTHER)
        super().connection_lost(exc)
        if self._answering is not None:
            self._has_cancelled = True
            self._answering.cancel()

    def _tie(self) -> None:
        self._answering = asyncio.current_task()

    def _abort(self) -> None:
        """End the connection at once, and leave its request to who asks for that."""
        self._answering = None
        self.transport.abort()

    def _watch(self) -> None:
        """Give each stage of each request its time, however often its client sends a byte."""
        stage = self._present_stage()
        if stage is not self._stage or self.cycle is not self._request:
            self._enter(stage)

    def _present_stage(self) -> _Stage:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # after an upgrade to a WebSocket
            return _Stage.OTHER
        if self.conn.their_state is h11.SEND_BODY:
            return _Stage.BODY if self.conn.our_state is not h11.DONE else _Stage.UNWANTED
        request: object = self.cycle  # None before the first, which the base has no type for
        is_begun = request is None or bool(self.conn.trailing_data[0])
        return _Stage.HEAD if self.conn.their_state is h11.IDLE and is_begun else _Stage.OTHER

    def _enter(self, stage: _Stage) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._stage, self._request = stage, self.cycle
        time_s = _TIME_S.get(stage)
        self._deadline = None if time_s is None else self.loop.call_later(time_s, self._end)

    def _end(self) -> None:
        if self.transport.get_protocol() is self:
            self.transport.close()
