"""Small HTTP server on threads of its own, which the agent never waits for."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, Final

from agent.health.metrics.bind_faults import explain
from agent.messages.errors import TransientError

_log: Final = logging.getLogger(__name__)
_CLIENT_S: Final = 2.0
"""A client that sends nothing for this long is disconnected."""
_WHOLE_S: Final = 6.0
"""A client that takes longer for its whole request is disconnected, however steadily it sends."""
_CLIENTS: Final = 64
"""Concurrent clients, one thread each; one more disconnects the oldest, which is likely a slow one."""
_POLL_S: Final = 0.25


@dataclass(frozen=True)
class Page:
    """One HTTP response."""

    status: HTTPStatus
    content_type: str
    body: bytes


Pages = dict[str, Callable[[], Page]]
"""Response functions by path, called on the server's threads, one at a time."""


class HttpServer:
    """HTTP server with one thread per client, for a bounded number of clients.

    Owner: the caller of `start` and `stop`.
    """

    def __init__(self, bind: str, pages: Pages) -> None:
        """Store the address HOST:PORT (an IPv6 host in brackets) and the pages."""
        host, _, port = bind.rpartition(":")
        self._bind: Final = bind
        self._address: Final = (host.strip("[]"), int(port))
        self._pages: Final = pages
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The served port, useful where 0 was configured; 0 while not serving."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    def start(self) -> None:
        """Bind and serve; returns at once. Raises TransientError where the address is unavailable."""
        kind = _Server6 if ":" in self._address[0] else _Server
        try:
            self._server = kind(self._address, _handler(self._pages))
        except (OSError, OverflowError) as error:
            raise TransientError(explain(self._bind, error)) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect every client, and wait for the server's thread."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.cut()
            server.server_close()
            self._thread.join()


class _Server(ThreadingMixIn, HTTPServer):
    request_queue_size = _CLIENTS
    daemon_threads = False  # because daemon threads are not joined at the close

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._guard: Final = threading.Lock()
        self._since_s: Final[dict[socket.socket, float]] = {}
        """Time at which each connected client came (time.monotonic), the oldest first."""
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's call
        """Serve a client on its own thread; disconnect the oldest beyond the limit."""
        with self._guard:
            self._since_s[request] = time.monotonic()
            crowd = list(self._since_s)[: max(0, len(self._since_s) - _CLIENTS)]
        for one in crowd:
            self._drop(one)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - socketserver's call
        """Forget a client, and close its connection."""
        with self._guard:
            self._since_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Disconnect slow clients; called at each poll."""
        self.cut(_WHOLE_S)

    def cut(self, older_s: float = 0.0) -> None:
        """Disconnect every client connected for at least `older_s` seconds."""
        limit_s = time.monotonic() - older_s
        with self._guard:
            late = [one for one, since_s in self._since_s.items() if since_s <= limit_s]
        for one in late:
            self._drop(one)

    def _drop(self, client: socket.socket) -> None:
        # only shut down, because its own thread closes it
        with self._guard:
            self._since_s.pop(client, None)
        with suppress(OSError):  # because it may be closed already
            client.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host name, which may block on a name server."""
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - socketserver's call
        """Log the error and go on; a vanished client is expected."""
        is_client = isinstance(sys.exc_info()[1], OSError)
        _log.log(logging.DEBUG if is_client else logging.ERROR, "event=http_failed", exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_S
        server_version = "changeover"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives
            """Log nothing, because a scrape comes every few seconds."""

        def _answer(self, *, with_body: bool) -> None:
            make = pages.get(self.path.partition("?")[0])
            with turn:
                page = make() if make is not None else _absent(pages)
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if with_body:
                self.wfile.write(page.body)

    return Handler


def _absent(pages: Pages) -> Page:
    return Page(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", f"here are {', '.join(sorted(pages))}\n".encode())
