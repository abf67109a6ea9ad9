"""Entry of the web process: `python -m agent.web.web_process DESCRIPTOR`."""

import asyncio
import logging
import socket
import ssl
from typing import Any, Final

from starlette.applications import Starlette

from agent.messages.errors import MistakeError
from agent.messages.web.control import ToWeb, WebSetup
from agent.processes.child import Child, run_child
from agent.processes.package_version import version_of
from agent.web.console import console
from agent.web.gateway.gateway import Gateway
from agent.web.serving import walls
from agent.web.serving.control_link import ControlLink
from agent.web.serving.documents import DocumentStore
from agent.web.serving.http_server import HttpServer
from agent.web.serving.parts import WebParts
from agent.web.serving.servers import Servers

_LIBRARIES: Final = ("starlette", "uvicorn", "grpclib", "protobuf")
_TURN_S: Final = 1.0
"""Interval at which the event loop shows that it turns; control kills a process whose loop hangs."""


def main(child: Child[Any]) -> None:
    """Serve until control closes the channel."""
    setup = child.inbox.get()
    if not isinstance(setup, WebSetup):
        raise MistakeError(f"the first message to a web process is its set-up, not {type(setup).__name__}")
    walls.close_in()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # because it tells each connection
    asyncio.run(_run(child, setup))


async def _run(child: Child[Any], setup: WebSetup) -> None:
    documents = DocumentStore()
    control = ControlLink(child, documents)
    parts = WebParts(setup, documents, control)
    gateway = Gateway(parts) if setup.gateway else None
    app = Starlette(routes=[*(gateway.routes() if gateway else ()), *(console.routes(parts) if setup.console else ())])
    control.start()

    async def serve_http(listener: socket.socket, context: ssl.SSLContext | None) -> None:
        await HttpServer(app, listener, context).serve()

    servers = Servers(parts, serve_http, gateway.serve_grpc if gateway else None, gateway.faults if gateway else ())
    running = [_show_turning(child), servers.run(), *([gateway.run()] if gateway else [])]
    await asyncio.gather(*running)


async def _show_turning(child: Child[Any]) -> None:
    """Let the watchdog see that the loop turns: each turn is a call that began a moment ago."""
    while True:
        with child.busy():
            await asyncio.sleep(_TURN_S)


if __name__ == "__main__":
    run_child(ToWeb, {name: version for name in _LIBRARIES if (version := version_of(name))}, main)
