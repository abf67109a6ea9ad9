"""State as server-sent events: a snapshot, then the newest document of each topic that changed, and a beat a second."""

import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.web.console.access.body import RefusedError
from agent.web.console.access.guard import refused, token_of
from agent.web.console.access.places import Places
from agent.web.console.access.sessions import Sessions
from agent.web.console.access.users import User
from agent.web.console.board import Board

_BEAT_S: Final = 1.0
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class _Page(StreamingResponse):
    """The stream of one page, which leaves its place however it ends."""

    def __init__(self, parts: AsyncIterator[bytes], place: ExitStack) -> None:
        super().__init__(parts, media_type="text/event-stream", headers=_HEADERS)
        self._place: Final = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream it."""
        with self._place:
            await super().__call__(scope, receive, send)


class Events:
    """Streams of the board's documents, as many as there are places."""

    def __init__(self, board: Board, sessions: Sessions) -> None:
        self._board: Final = board
        self._sessions: Final = sessions
        self._places: Final = Places()

    async def answer(self, request: Request, _user: User | None) -> Response:
        """Answer with a stream that lasts as long as the page and the session."""
        token = token_of(request) or ""
        if request.method == "HEAD":  # because a stream without an end would answer it
            return Response(media_type="text/event-stream", headers=_HEADERS)
        if not self._places.has_for(token):
            return refused(503, "too_many_pages")
        place = ExitStack()
        place.enter_context(self._places.taken(token))  # now, because many requests may be answered before one streams
        return _Page(self._stream(token), place)

    async def _stream(self, token: str) -> AsyncIterator[bytes]:
        reader = self._board.open_reader()
        try:
            yield b"retry: 500\nevent: snapshot\ndata: %b\n\n" % self._board.snapshot()
            beaten_s = 0.0
            # A session may end while the page is open; asking for it also keeps an open page's session from idling.
            while self._sessions.user_of(token) is not None:
                now_s = time.monotonic()
                if now_s - beaten_s >= _BEAT_S:
                    beaten_s = now_s
                    yield b'event: beat\ndata: {"now":%.3f}\n\n' % time.time()
                for document in await reader.changes(max(0.05, beaten_s + _BEAT_S - time.monotonic())):
                    yield b"data: %b\n\n" % document
            yield b"event: ended\ndata: {}\n\n"
        except RefusedError:
            return  # without an end of the session: the page asks again, for as long as the users cannot be read
        finally:
            self._board.close_reader(reader)
