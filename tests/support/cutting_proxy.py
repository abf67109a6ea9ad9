"""A TCP proxy before a real server, which counts what the server sends and cuts connections at given places."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

_CHUNK_BYTES = 16 << 10


class CuttingProxy:
    """Counts all bytes that the server sends; a connection ends at each of `cuts`, places in that count."""

    def __init__(self, server: str, cuts: Sequence[int]) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._cuts = sorted(cuts)
        self._counting = threading.Lock()
        self.bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def is_done(self) -> bool:
        """True once every cut was made."""
        return not self._cuts

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._server) as server:
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            while data := server.recv(self._most()):
                client.sendall(data)
                if self._is_cut(len(data)):
                    client.shutdown(socket.SHUT_RDWR)
                    return
            client.shutdown(socket.SHUT_RDWR)

    def _most(self) -> int:
        with self._counting:
            return min(_CHUNK_BYTES, self._cuts[0] - self.bytes) if self._cuts else _CHUNK_BYTES

    def _is_cut(self, amount_bytes: int) -> bool:
        with self._counting:
            self.bytes += amount_bytes
            if not self._cuts or self.bytes < self._cuts[0]:
                return False
            del self._cuts[0]
            return True

    @staticmethod
    def _ask(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(_CHUNK_BYTES):
                server.sendall(data)


@contextmanager
def cutting_proxy(server: str, cuts: Sequence[int]) -> Iterator[CuttingProxy]:
    """Run a proxy for the length of the block."""
    proxy = CuttingProxy(server, cuts)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
