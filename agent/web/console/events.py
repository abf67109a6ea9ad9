"""State as server-sent events: a snapshot, then the newest document of each topic that changed, and a beat a second."""

import time
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agent.web.console.access.guard import refused, token_of
from agent.web.console.access.sessions import Sessions
from agent.web.console.access.users import User
from agent.web.console.board import Board

MOST_READERS: Final = 32
_BEAT_S: Final = 1.0
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Events:
    """Streams of the board's documents, at most 32 of them."""

    def __init__(self, board: Board, sessions: Sessions) -> None:
        self._board: Final = board
        self._sessions: Final = sessions

    async def answer(self, request: Request, _user: User | None) -> Response:
        """Answer with a stream that lasts as long as the page and the session."""
        if len(self._board.readers) >= MOST_READERS:
            return refused(503, "too_many_pages")
        return StreamingResponse(self._stream(token_of(request)), media_type="text/event-stream", headers=_HEADERS)

    async def _stream(self, token: str | None) -> AsyncIterator[bytes]:
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
        finally:
            self._board.close_reader(reader)
