"""The socket that takes connections: no more than the process has descriptors for, and of one network only a share.

What is beyond that is closed as soon as it is taken, because a connection that waits for its place would hold one.
"""

import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

MOST: Final = 320
"""Connections of one listener. Two listeners and the process's own files are below its 1024 descriptors."""
MOST_EACH: Final = 96
"""Connections from one network: more than a busy client or a proxy of many pages has."""
_IPV6_PREFIX: Final = 64
"""Bits that a site is given; whoever has it has all addresses below."""
_SILENT_S: Final = 20
_PROBE_S: Final = 10
_PROBES: Final = 3
_UNREAD_MS: Final = 40_000
"""Time after which a peer that takes nothing is given up."""


def network_of(host: str) -> str:
    """Return what one client may choose its addresses from: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))


class Listener(socket.socket):
    """A listening socket for an event loop; counts the connections that it has given out."""

    def __init__(self, bind: str, most: int = MOST, most_each: int = MOST_EACH) -> None:
        """Listen on HOST:PORT. Raises OSError."""
        host, _, port = bind.rpartition(":")
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        super().__init__(family, kind, protocol)
        self._most: Final = most
        self._most_each: Final = most_each
        self._open: Final[Counter[str]] = Counter()
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):  # because a kernel without them can serve all the same
                self._end_dead_peers()
            self.bind(address)
            self.listen(128)
        except OSError:
            self.close()
            raise
        self.setblocking(False)

    @property
    def connections(self) -> int:
        """Number of connections that are open."""
        return sum(self._open.values())

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection and its peer. Raises ConnectionAbortedError, which loops ignore, for one too many."""
        taken, address = super().accept()
        network = network_of(str(address[0]))
        if self.connections >= self._most or self._open[network] >= self._most_each:
            taken.close()
            raise ConnectionAbortedError(f"too many connections, of {network} or of all")
        self._open[network] += 1
        return _Connection(taken, lambda: self._left(network)), address

    def _left(self, network: str) -> None:
        self._open[network] -= 1
        if not self._open[network]:
            del self._open[network]

    def _end_dead_peers(self) -> None:
        """Have the kernel end connections whose peer is gone or reads no more; those taken inherit it."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_S)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)


class _Connection(socket.socket):
    """One connection, which tells its listener when it is closed."""

    def __init__(self, taken: socket.socket, left: Callable[[], None]) -> None:
        super().__init__(taken.family, taken.type, taken.proto, taken.detach())
        self._tell: Callable[[], None] | None = left

    def close(self) -> None:
        """Close it."""
        super().close()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()
