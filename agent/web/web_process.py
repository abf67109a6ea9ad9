"""Entry of the web process: `python -m agent.web.web_process DESCRIPTOR`."""

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from agent.messages.errors import MistakeError
from agent.messages.web.control import ToWeb, WebSetup
from agent.messages.web.told import MetaWeb
from agent.processes.child import Child, run_child
from agent.processes.package_version import version_of
from agent.processes.private_files import FOLDER_MODE
from agent.web.console import console
from agent.web.console.access.guard import unrouted
from agent.web.console.access.users import FOLDER
from agent.web.gateway.core.clients import Clients
from agent.web.gateway.gateway import Gateway
from agent.web.serving import walls
from agent.web.serving.control_link import ControlLink
from agent.web.serving.documents import DocumentStore
from agent.web.serving.http_server import HttpServer
from agent.web.serving.parts import WebParts
from agent.web.serving.servers import Servers, Told

_LIBRARIES: Final = ("starlette", "uvicorn", "wsproto", "grpclib", "protobuf", "pillow")
_TURN_S: Final = 1.0
"""Interval at which the event loop shows that it turns; control kills a process whose loop hangs."""


class WebProcess:
    """Reads secrets, builds walls, and serves behind them."""

    def __init__(self) -> None:
        self._contexts: walls.Contexts = {}
        self._clients = Clients(())
        self._walls = MetaWeb([])

    def close_in(self, child: Child[Any]) -> None:
        """Read what stands in files that only this moment needs, and give up the right to read them."""
        setup = child.first()
        if not isinstance(setup, WebSetup):
            raise MistakeError(f"the first message to a web process is its set-up, not {type(setup).__name__}")
        self._contexts = walls.contexts_of(child, setup)
        self._clients = Clients(setup.clients if setup.gateway else ())
        self._walls = walls.close_in(_made(Path(setup.state_dir) / FOLDER) if setup.console else None)

    def serve(self, child: Child[Any]) -> None:
        """Serve until control closes the channel."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # because it tells each connection
        asyncio.run(self._run(child, child.inbox.get()))

    async def _run(self, child: Child[Any], setup: WebSetup) -> None:
        documents = DocumentStore()
        control = ControlLink(child, documents)
        parts = WebParts(setup, documents, control)
        gateway = Gateway(parts, self._clients) if setup.gateway else None
        rows = [*(gateway.routes() if gateway else ()), *(console.routes(parts) if setup.console else ())]
        app = Starlette(routes=rows, exception_handlers={HTTPException: unrouted})
        control.start()

        async def serve_http(listener: socket.socket, context: ssl.SSLContext | None) -> None:
            await HttpServer(app, listener, context).serve()

        told = Told(tuple(self._clients.faults), self._walls)
        servers = Servers(parts, self._contexts, serve_http, gateway.serve_grpc if gateway else None, told)
        running = [_show_turning(child), servers.run(), *([gateway.run()] if gateway else [])]
        await asyncio.gather(*running)


def _made(folder: Path) -> Path | None:
    """Return a folder that is there, because a wall lets through only what it has seen; None where none can be made."""
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


async def _show_turning(child: Child[Any]) -> None:
    """Let the watchdog see that the loop turns: each turn is a call that began a moment ago."""
    while True:
        with child.busy():
            await asyncio.sleep(_TURN_S)


if __name__ == "__main__":
    process = WebProcess()
    versions = {name: version for name in _LIBRARIES if (version := version_of(name))}
    run_child(ToWeb, versions, process.serve, process.close_in)
