"""Reasons why an address cannot be served, each with what to do."""

import errno
import socket
from contextlib import closing
from pathlib import Path
from typing import Final

import psutil

_UNPRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_SHOWN: Final = 6


def try_bind(bind: str) -> None:
    """Listen on HOST:PORT for a moment. Raises OSError where that is impossible."""
    host, port = _parts(bind)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    with closing(socket.socket(family, kind, protocol)) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)
        tried.listen(1)


def explain(bind: str, error: Exception) -> str:
    """Return why `bind` cannot be served, from an error of `try_bind` or of a server, and what to do."""
    _, port = _parts(bind)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, socket.gaierror):
        return f"{bind} cannot be served: the name does not resolve; give an address of this device"
    if number == errno.EADDRINUSE:
        advice = f"choose another port, or end that (sudo ss -ltnp 'sport = {port}')"
        return f"{bind} cannot be served: it is in use by {_listener(port) or 'another program'}; {advice}"
    if number == errno.EADDRNOTAVAIL:
        return f"{bind} cannot be served: it is no address of this device, which has {', '.join(_addresses())}"
    if number in {errno.EACCES, errno.EPERM} and is_privileged(bind):
        advice = f"choose one from {_first_unprivileged()} on"
        return f"{bind} cannot be served: it is a privileged port, which the service may not serve; {advice}"
    return f"{bind} cannot be served: {error}; choose another address"


def is_privileged(bind: str) -> bool:
    """Return True for a port that only root may serve."""
    return 0 < _parts(bind)[1] < _first_unprivileged()


def _parts(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def _first_unprivileged() -> int:
    try:
        return int(_UNPRIVILEGED.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024


def _listener(port: int) -> str | None:
    """Return `NAME (process PID)` of the process that listens on `port`; None where this user may not see it."""
    try:
        connections = psutil.net_connections("tcp")
        listening = (one for one in connections if one.status == psutil.CONN_LISTEN and one.pid)
        pid = next((one.pid for one in listening if one.laddr and one.laddr.port == port), None)
        return f"{psutil.Process(pid).name()} (process {pid})" if pid else None
    except (psutil.Error, OSError):
        return None


def _addresses() -> list[str]:
    kinds = {socket.AF_INET, socket.AF_INET6}
    found = [one.address for each in psutil.net_if_addrs().values() for one in each if one.family in kinds]
    return list(dict.fromkeys(address.partition("%")[0] for address in found))[:_SHOWN]
