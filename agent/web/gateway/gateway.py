"""The gateway's parts, put together."""

import asyncio
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

    def __init__(self, parts: WebParts) -> None:
        """Read the clients' tokens, and attach to the workers' links."""
        clients = Clients(parts.setup.clients)
        self.faults: Final = tuple(clients.faults)
        """Mistakes that keep configured clients from being let in."""
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
            for link in self._links.values():
                link.tidy()
