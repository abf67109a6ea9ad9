"""The servers of the web process: bound, told to control, and tried again where an address cannot be served."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from agent.messages.web.control import Serving
from agent.messages.web.told import MetaWeb
from agent.web.serving.listener import Listener
from agent.web.serving.parts import WebParts
from agent.web.serving.walls import Contexts

_RETRY_S: Final = 15.0

Serve = Callable[[socket.socket, ssl.SSLContext | None], Coroutine[Any, Any, None]]
"""Serves on a bound socket until the process ends."""


@dataclass(frozen=True)
class Told:
    """Answer to control, beside the addresses."""

    faults: tuple[str, ...]
    """Mistakes that keep clients from being let in."""
    walls: MetaWeb


class Servers:
    """Binds the addresses of the settings, and serves what can be served."""

    def __init__(self, parts: WebParts, contexts: Contexts, http: Serve, grpc: Serve | None, told: "Told") -> None:
        """Store the servers; `told` goes to control with what cannot be served."""
        self._parts: Final = parts
        self._contexts: Final = contexts
        self._walls: Final = told.walls
        self._http: Final = http
        self._grpc: Final = grpc
        self._untold: set[str] = set()
        """Addresses that were not tried yet."""
        self._ports: Final = {"bind": 0, "grpc_bind": 0}
        self._faults: Final = {"bind": "", "grpc_bind": "", "more": "; ".join(told.faults)}

    async def run(self) -> None:
        """Serve both addresses, as far as they are set."""
        setup = self._parts.setup
        wanted: list[tuple[str, str, Serve]] = []
        if setup.bind:
            wanted.append(("bind", setup.bind, self._http))
        if setup.grpc_bind and self._grpc is not None:
            wanted.append(("grpc_bind", setup.grpc_bind, self._grpc))
        self._untold = {one[0] for one in wanted}
        await asyncio.gather(*(self._serve(*one) for one in wanted))

    async def _serve(self, key: str, bind: str, serve: Serve) -> None:
        while True:
            try:
                listener = Listener(bind)
            except OSError as error:
                self._tell(key, 0, f"web.{key} {bind} cannot be served: {error}")
                await asyncio.sleep(_RETRY_S)
                continue
            self._tell(key, listener.getsockname()[1], "")
            await serve(listener, self._contexts.get(key))

    def _tell(self, key: str, port: int, fault: str) -> None:
        self._ports[key], self._faults[key] = port, fault
        self._untold.discard(key)
        if self._untold:  # because control would take what is not tried yet for what is well
            return
        detail = "; ".join(fault for fault in self._faults.values() if fault)
        self._parts.control.send(Serving(self._ports["bind"], self._ports["grpc_bind"], detail, self._walls))
