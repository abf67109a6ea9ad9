"""The console's parts, and the table of its routes."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.websockets import WebSocket

from agent.messages.web.control import Watching
from agent.processes.slots.picture_link import PictureReceiver
from agent.web.console.access.guard import PATH, Row, guarded
from agent.web.console.access.known import KnownBrowsers
from agent.web.console.access.login import Login
from agent.web.console.access.sessions import Sessions
from agent.web.console.access.users import User, Users
from agent.web.console.acts import Acts, Command
from agent.web.console.board import Board
from agent.web.console.events import Events
from agent.web.console.pictures import PictureHub
from agent.web.console.static_files import StaticFiles
from agent.web.serving.documents import DocumentStore
from agent.web.serving.parts import WebParts

_TICK_S: Final = 1.0


@dataclass(frozen=True)
class Outside:
    """The console's connections."""

    state_dir: Path
    documents: DocumentStore
    command: Command
    """Gives a person's command to control."""
    receivers: Mapping[str, PictureReceiver]
    """Picture links, by stream."""
    watch: Callable[[tuple[str, ...]], None]
    """Asks for the detections of the streams that people look at."""


def routes(parts: WebParts) -> list[BaseRoute]:
    """Start the console on the running event loop, and return its routes; they come after those of the gateway."""
    console = Console(
        Outside(
            Path(parts.setup.state_dir),
            parts.documents,
            parts.control.command,
            {one.stream: PictureReceiver(one.descriptor) for one in parts.setup.pictures},
            lambda streams: parts.control.send(Watching(streams)),
        )
    )
    console.start()
    return console.routes()


class Console:
    """Composition root of the console, for the event loop's thread."""

    def __init__(self, outside: Outside) -> None:
        self._documents: Final = outside.documents
        self.board: Final = Board()
        self._hub: Final = PictureHub(outside.receivers, outside.watch)
        users = Users(outside.state_dir)
        self.sessions: Final = Sessions(outside.state_dir, users)
        self._known: Final = KnownBrowsers(outside.state_dir)
        self._login: Final = Login(users, self.sessions, self._known)
        self._events: Final = Events(self.board, self.sessions)
        self._acts: Final = Acts(self.board, outside.command)
        self.files: Final = StaticFiles()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Read files and sessions, and listen for documents and pictures from now on."""
        self.files.load()
        self.sessions.load()
        self._known.load()
        self._hub.start()
        self._tasks = [asyncio.ensure_future(one) for one in (self._take_documents(), self._tick())]

    async def stop(self) -> None:
        """Listen no longer."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._hub.stop()

    def table(self) -> tuple[Row, ...]:
        """Return every route with the least role that may call it."""
        return (
            Row("GET", "/", "public", self.files.to_index),
            Row("GET", PATH, "public", self.files.to_index),
            Row("GET", f"{PATH}/api/session", "viewer", self._login.tell),
            Row("POST", f"{PATH}/api/login", "public", self._login.begin),
            Row("POST", f"{PATH}/api/logout", "viewer", self._login.end),
            Row("GET", f"{PATH}/api/events", "viewer", self._events.answer),
            Row("GET", f"{PATH}/api/curves", "viewer", self._curves),
            Row("POST", f"{PATH}/api/act", "operator", self._acts.answer),
            Row("WS", f"{PATH}/api/pictures", "viewer", socket=self._serve_pictures),
            Row("GET", f"{PATH}/{{name:path}}", "public", self.files.answer),
        )

    def routes(self) -> list[BaseRoute]:
        """Return the routes for the application, each behind its checks."""
        return [guarded(row, self.sessions) for row in self.table()]

    async def _take_documents(self) -> None:
        """Take every document; states are read again where the loop was too slow for them."""
        with self._documents.subscribed() as news:
            missed = -1
            while True:
                if news.missed != missed:
                    missed = news.missed
                    for topic, payload in self._documents.states.items():
                        self.board.take(topic, payload)
                one = await news.next()
                stream, _, name = one.topic.removeprefix("stream/").partition("/")
                if name == "detections":
                    self._hub.take_detections(stream, one.payload)
                else:
                    self.board.take(one.topic, one.payload)

    async def _curves(self, _request: Request, _user: User | None) -> Response:
        return Response(self.board.curves(), media_type="application/json", headers={"cache-control": "no-store"})

    async def _serve_pictures(self, socket: WebSocket) -> None:
        await self._hub.serve(socket, self.sessions)

    async def _tick(self) -> None:
        while True:
            self._hub.tick()
            await asyncio.sleep(_TICK_S)
