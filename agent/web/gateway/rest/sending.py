"""Sends HTTP answers: large ones piece by piece, as fast as the client reads, and no longer than it may take."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Scope, Send

from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.held_bytes import Held
from agent.web.serving.http_server import ABORT

_WHOLE_S: Final = 30.0
"""Time for a whole answer."""
_PIECE_BYTES: Final = 64 << 10
"""A body of up to this goes to the connection's own buffer at once, and is not counted."""


@dataclass
class Sending:
    """One answer on its way."""

    scope: Scope
    send: Send
    has_begun: bool = False
    """Nothing else can be answered any more."""
    _sent_bytes: int = 0

    async def run(self, response: Response, held: Held) -> None:
        """Send an answer, whose bytes are held meanwhile.

        Raises RequestError where there is no room for them, or the client reads too slowly; that ends its connection.
        """
        size_bytes = len(response.body)
        held.resize(size_bytes if size_bytes > _PIECE_BYTES else 0)
        try:
            await held.moving(self._pieces(response), lambda: self._sent_bytes, _WHOLE_S)
        except (TimeoutError, asyncio.TimeoutError):
            await self._abort()
            raise RequestError("limited", f"the answer was not read within {_WHOLE_S:g} s") from None
        except RequestError:
            await self._abort()
            raise

    async def _pieces(self, response: Response) -> None:
        self.has_begun = True
        start = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        await self.send(start)
        body = memoryview(response.body)
        while len(body) - self._sent_bytes > _PIECE_BYTES:
            piece = body[self._sent_bytes : self._sent_bytes + _PIECE_BYTES]
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            self._sent_bytes += len(piece)
        await self.send({"type": "http.response.body", "body": body[self._sent_bytes :]})

    async def _abort(self) -> None:
        """End the connection, because its buffer would stay as long as the client likes."""
        self.scope[ABORT]()
        await asyncio.sleep(0)  # in which the server learns of it
