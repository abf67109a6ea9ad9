"""A broker of MQTT 3.1.1 alone: answers a CONNECT of version 5 as such brokers do, and hands all else to a real one."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_UNACCEPTABLE = b"\x20\x02\x00\x01"
_LEVEL_AT = 8
"""Place of the protocol level in a CONNECT shorter than 128 bytes, as paho's are."""


@contextmanager
def refusing_5(target: int) -> Iterator[int]:
    """Listen before the broker at `target`; yields the port."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept, args=(server, target, ended))
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            ended.set()
            thread.join(20)


def _accept(server: socket.socket, target: int, ended: threading.Event) -> None:
    threads = []
    while not ended.is_set():
        if select.select([server], [], [], 0.1)[0]:
            client, _ = server.accept()
            threads.append(threading.Thread(target=_serve, args=(client, target, ended)))
            threads[-1].start()
    for thread in threads:
        thread.join(20)


def _serve(client: socket.socket, target: int, ended: threading.Event) -> None:
    with client, contextlib.suppress(OSError):
        first = client.recv(4096)
        level_at = _LEVEL_AT + (first[1] >= 0x80)
        if len(first) > level_at and first[level_at] == 5:
            client.sendall(_UNACCEPTABLE)
            return
        with socket.create_connection(("127.0.0.1", target)) as broker:
            broker.sendall(first)
            _relay(client, broker, ended)


def _relay(client: socket.socket, broker: socket.socket, ended: threading.Event) -> None:
    others = {client: broker, broker: client}
    while not ended.is_set():
        for ready in select.select([client, broker], [], [], 0.1)[0]:
            data = ready.recv(65536)
            if not data:
                return
            others[ready].sendall(data)
