"""Graceful disconnect, driven without the event loop. All times are of time.monotonic."""

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from agent.mqtt.endpoint.connect_errors import Outcome
from agent.mqtt.link.connection import Connection
from agent.mqtt.message import OutgoingMessage

_AGAIN_S: Final = 0.1
"""Delay before refused last messages are sent again."""


@dataclass(frozen=True)
class ExtraReader:
    """Another descriptor to serve while waiting: `read` is called whenever `fd` is readable."""

    fd: int
    read: Callable[[], None]


def finish(connection: Connection, last: Sequence[OutgoingMessage], deadline_s: float) -> bool:
    """Send `last`, wait until all is accepted, and disconnect; False where `deadline_s` passed before."""
    while True:
        refused: list[OutgoingMessage] = []
        for message in last:
            if not drive_until(connection, lambda: connection.has_room, deadline_s):
                return False
            connection.publish(message, partial(_note_refused, refused, message))
        if not drive_until(connection, lambda: connection.in_flight == 0, deadline_s):
            return False
        if not refused:
            return leave(connection, deadline_s)
        last = refused
        drive_until(connection, lambda: False, min(deadline_s, time.monotonic() + _AGAIN_S))


def _note_refused(refused: list[OutgoingMessage], message: OutgoingMessage, outcome: Outcome) -> None:
    if outcome is not Outcome.ACCEPTED:
        refused.append(message)


def leave(connection: Connection, deadline_s: float) -> bool:
    """Send a DISCONNECT, so that no will is sent, and wait for the broker to close; False where `deadline_s` passed."""
    # waits, because closing a socket with unread data resets it, and may discard the DISCONNECT
    connection.disconnect()
    return drive_until(connection, lambda: connection.fileno() is None, deadline_s)


def drive_until(
    connection: Connection, is_done: Callable[[], bool], deadline_s: float, beside: ExtraReader | None = None
) -> bool:
    """Drive the connection until `is_done`; False where it ended or `deadline_s` passed before."""
    poll = select.poll()
    if beside is not None:
        poll.register(beside.fd, select.POLLIN)
    while not is_done():
        fd = connection.fileno()
        left_s = deadline_s - time.monotonic()
        if fd is None or left_s <= 0:
            return False
        poll.register(fd, select.POLLIN | (select.POLLOUT if connection.is_choked else 0))
        ready = {one for one, _ in poll.poll(left_s * 1000)}
        poll.unregister(fd)
        if beside is not None and beside.fd in ready:
            beside.read()
        if fd in ready:
            connection.drive()
    return True
