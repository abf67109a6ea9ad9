"""The gateway's parts, put together."""

import asyncio
import ctypes
import socket
import ssl
from typing import Final

from starlette.routing import BaseRoute

from agent.web.gateway.core.catalog import CatalogView
from agent.web.gateway.core.clients import Clients
from agent.web.gateway.core.counting import Counting
from agent.web.gateway.core.service import GatewayService
from agent.web.gateway.core.worker_link import WorkerLink
from agent.web.gateway.grpc.server import GrpcServer
from agent.web.gateway.rest import routes as rest
from agent.web.serving.parts import WebParts

_TIDY_S: Final = 1.0


class Gateway:
    """Inference requests over both transports; to be made within the event loop."""

    def __init__(self, parts: WebParts, clients: Clients) -> None:
        """Attach to the workers' links."""
        self._links: Final = {one.group: WorkerLink(one, parts.control) for one in parts.setup.links}
        self._counting: Final = Counting(parts.control)
        self._service: Final = GatewayService(clients, CatalogView(parts.documents), self._counting, self._links)

    def routes(self) -> list[BaseRoute]:
        """Return the HTTP routes, all of which begin with /v2."""
        return rest.routes(self._service)

    async def serve_grpc(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve gRPC on a bound socket, until the process ends."""
        await GrpcServer(self._service).serve(listener, context)

    async def run(self) -> None:
        """Begin with the workers; then count, and give memory back, until the process ends."""
        for link in self._links.values():
            link.start()
        await asyncio.gather(self._counting.run(), self._tidy())

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_S)
            gone_idle = [link.tidy() for link in self._links.values()]
            if any(gone_idle):
                _trim()


def _trim() -> None:
    """Return freed memory to the system; a C library other than glibc does so by itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
