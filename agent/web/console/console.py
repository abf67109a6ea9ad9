"""The console's parts, and the table of its routes."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.websockets import WebSocket

from agent.processes.slots.picture_link import PictureReceiver
from agent.web.console.access.guard import PATH, Row, guarded
from agent.web.console.access.login import Login
from agent.web.console.access.sessions import Sessions
from agent.web.console.access.users import User, Users
from agent.web.console.acts import Acts, Send
from agent.web.console.board import Board
from agent.web.console.events import Events
from agent.web.console.pictures import PictureHub
from agent.web.console.static_files import StaticFiles

_TICK_S: Final = 1.0


class Console:
    """Composition root of the console, for the event loop's thread."""

    def __init__(
        self,
        state_dir: Path,
        send: Send,
        receivers: Mapping[str, PictureReceiver],
        watch: Callable[[tuple[str, ...]], None],
    ) -> None:
        """Build all parts; `send` takes acts to control, and `watch` is told whose detections are to be given."""
        self.board: Final = Board()
        self.hub: Final = PictureHub(receivers, watch)
        users = Users(state_dir)
        self._sessions: Final = Sessions(state_dir, users)
        self._login: Final = Login(users, self._sessions)
        self._events: Final = Events(self.board, self._sessions)
        self._acts: Final = Acts(self.board, send)
        self._files: Final = StaticFiles()
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read files and sessions, and begin to listen for pictures; on the running loop."""
        self._files.load()
        self._sessions.load()
        self.hub.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    def stop(self) -> None:
        """End all streams of events, and listen no longer."""
        self._events.close()
        if self._ticking is not None:
            self._ticking.cancel()
        self.hub.stop()

    def take(self, topic: str, payload: bytes) -> None:
        """Take a document of the device; `topic` is relative to it."""
        stream, _, name = topic.removeprefix("stream/").partition("/")
        if name == "detections":
            self.hub.take_detections(stream, payload)
        else:
            self.board.take(topic, payload)

    def table(self) -> tuple[Row, ...]:
        """Return every route with the least role that may call it."""
        return (
            Row("GET", "/", "public", self._files.to_index),
            Row("GET", f"{PATH}/api/session", "viewer", self._login.tell),
            Row("POST", f"{PATH}/api/login", "public", self._login.begin),
            Row("POST", f"{PATH}/api/logout", "viewer", self._login.end),
            Row("GET", f"{PATH}/api/events", "viewer", self._events.answer),
            Row("GET", f"{PATH}/api/curves", "viewer", self._curves),
            Row("POST", f"{PATH}/api/act", "operator", self._acts.answer),
            Row("WS", f"{PATH}/api/pictures", "viewer", socket=self._serve_pictures),
            Row("GET", f"{PATH}/{{name:path}}", "public", self._files.answer),
        )

    def routes(self) -> list[BaseRoute]:
        """Return the routes for the application, each behind its checks."""
        return [guarded(row, self._sessions) for row in self.table()]

    async def _curves(self, _request: Request, _user: User | None) -> Response:
        return Response(self.board.curves(), media_type="application/json", headers={"cache-control": "no-store"})

    async def _serve_pictures(self, socket: WebSocket) -> None:
        await self.hub.serve(socket, self._sessions)

    async def _tick(self) -> None:
        while True:
            self.hub.tick()
            await asyncio.sleep(_TICK_S)
