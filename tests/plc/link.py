"""A TCP link that can be held, as a network that stands still: nothing is lost, and all of it comes at once later."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from support.brokers import free_port

_CHUNK: Final = 4096


class HoldingLink:
    """Listens on `port` and carries to `target`; `hold`, `release` and `cut` are called from any thread."""

    def __init__(self, target: int, tap: Callable[[], Callable[[bytes], None]] = lambda: lambda _data: None) -> None:
        """`tap` is called at each connection, and what it returns with all that the client sends on it."""
        self.port = free_port()
        self._target = target
        self._tap = tap
        self._flows = threading.Event()
        self._flows.set()
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_closed = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_closed = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(20)

    def hold(self) -> None:
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Break every connection; what was held on it is gone."""
        with self._guard:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._guard:
                self._open |= {client, broker}
            for source, sink, look in ((client, broker, self._tap()), (broker, client, None)):
                threading.Thread(target=self._carry, args=(source, sink, look), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, look: Callable[[bytes], None] | None) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if look is not None:
                    look(data)
                self._flows.wait()
                sink.sendall(data)
        self._flows.wait()
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._guard:
            self._open -= {source, sink}
        source.close()
