"""Bytes of requests and answers in memory: bounded for all, with a part for each client that is never another's."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from agent.processes.slots.request_memory import BLOCK_BYTES, MOST_HELD_BYTES
from agent.web.gateway.core.faults import RequestError, busy

ENVELOPE_BYTES: Final = 1 << 20
"""Of a message, beside its tensors."""
_LARGEST_BYTES: Final = BLOCK_BYTES + ENVELOPE_BYTES
_PACE: Final = 2 << 20
"""Bytes/s; what moves more slowly yields to others, once it had its grace."""
_GRACE_S: Final = 2.0
_RETRY_S: Final = 1.0
_Moved = TypeVar("_Moved")


class HeldBytes:
    """Ledger of the bytes that clients hold. For the event loop's thread.

    Each client has a part of its own, and one largest request fits beside all of them. What a client holds beyond its
    part is taken from what is common, and where that is short, a slow transfer there ends for the sake of others.
    """

    def __init__(self, clients: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Divide the bytes among so many clients."""
        self._clock: Final = clock
        share = (MOST_HELD_BYTES - _LARGEST_BYTES) // max(1, clients)
        self._own_bytes: Final = min(_LARGEST_BYTES, share)
        self._common_bytes: Final = MOST_HELD_BYTES - self._own_bytes * max(1, clients)
        self._held: Final[dict[str, list[Held]]] = {}

    @property
    def most_bytes(self) -> int:
        """Most bytes of one client."""
        return self._own_bytes + self._common_bytes

    @contextmanager
    def of(self, client: str) -> Iterator["Held"]:
        """Run the block with a request of a client, which holds nothing at first."""
        held = Held(self, client, self._clock)
        mine = self._held.setdefault(client, [])
        mine.append(held)
        try:
            yield held
        finally:
            mine.remove(held)
            if not mine:
                del self._held[client]

    def make_room(self, held: "Held", more_bytes: int) -> None:
        """Raise RequestError unless a request may hold more; slow transfers of others may end for it."""
        client = held.client
        wanted_bytes = self._bytes_of(client) + more_bytes
        if wanted_bytes > self.most_bytes:
            detail = f"requests of {client} hold {self._bytes_of(client)} bytes, of {self.most_bytes} at most"
            raise RequestError("limited", detail, retry_s=_RETRY_S)
        beyond = {name: self._beyond(self._bytes_of(name)) for name in self._held if name != client}
        short_bytes = self._beyond(wanted_bytes) + sum(beyond.values()) - self._common_bytes
        slow = [one for name in beyond for one in self._held[name] if one.is_slow]
        ended: list[Held] = []
        for one in sorted(slow, key=lambda one: one.pace):
            if short_bytes <= 0:
                break
            if beyond[one.client] and self._bytes_of(one.client) >= wanted_bytes:  # else it is another's turn to wait
                left_bytes = max(0, beyond[one.client] - one.bytes)
                short_bytes -= beyond[one.client] - left_bytes
                beyond[one.client] = left_bytes
                ended.append(one)
        if short_bytes > 0:
            raise busy("requests of others hold too many bytes", _RETRY_S)
        for one in ended:
            one.end()

    def _bytes_of(self, client: str) -> int:
        return sum(one.bytes for one in self._held.get(client, ()))

    def _beyond(self, size_bytes: int) -> int:
        return max(0, size_bytes - self._own_bytes)


class Held:
    """The bytes that one request holds: its body while it comes and is inferred, then its answer until it is sent."""

    def __init__(self, ledger: HeldBytes, client: str, clock: Callable[[], float]) -> None:
        self._ledger: Final = ledger
        self.client: Final = client
        self.bytes = 0
        self._clock: Final = clock
        self._transfer: asyncio.Future[Any] | None = None
        self._began_s = 0.0
        self._moved_bytes: Callable[[], int] = int
        self._has_yielded = False

    def resize(self, size_bytes: int) -> None:
        """Hold so many bytes from now on. Raises RequestError where these are too many, and holds what it held."""
        if size_bytes > self.bytes:
            self._ledger.make_room(self, size_bytes - self.bytes)
        self.bytes = size_bytes

    async def moving(
        self, transfer: Coroutine[Any, Any, _Moved], moved_bytes: Callable[[], int], time_s: float
    ) -> _Moved:
        """Return what `transfer` returns, which receives or sends these bytes; `moved_bytes` tells how far it is.

        Raises TimeoutError after `time_s`, and RequestError where it is slow and others need the bytes.
        """
        self._transfer = asyncio.ensure_future(transfer)
        self._began_s, self._moved_bytes = self._clock(), moved_bytes
        try:
            return await asyncio.wait_for(self._transfer, time_s)
        except asyncio.CancelledError:
            if self._has_yielded:
                detail = f"others need memory, and this moves less than {_PACE >> 20} MiB/s"
                raise RequestError("limited", detail, retry_s=_RETRY_S) from None
            raise
        finally:
            self._transfer = None

    @property
    def pace(self) -> float:
        """Bytes/s of the transfer under way."""
        return self._moved_bytes() / max(_GRACE_S, self._clock() - self._began_s)

    @property
    def is_slow(self) -> bool:
        """True for a transfer that had its grace, and moves too slowly."""
        is_moving = self._transfer is not None and not self._transfer.done()
        return is_moving and self._clock() - self._began_s > _GRACE_S and self.pace < _PACE

    def end(self) -> None:
        """End the transfer; its bytes count as given back at once."""
        if self._transfer is not None:
            self._has_yielded = True
            self._transfer.cancel()
            self.bytes = 0
