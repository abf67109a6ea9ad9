"""Gives the blocks of shared memory to requests, in turns between clients."""

import asyncio
from collections import OrderedDict, deque
from typing import Final

from agent.web.gateway.core.faults import busy

_WAITING: Final = 128
"""Requests that wait for a block, of all clients; a further one is refused."""


class Turns:
    """Fair queue for blocks: the client that got one longest ago comes first. For the event loop's thread."""

    def __init__(self) -> None:
        self._free: Final[deque[int]] = deque()
        self._waiting: Final[OrderedDict[str, deque[asyncio.Future[int]]]] = OrderedDict()
        self._count = 0

    @property
    def free_blocks(self) -> int:
        """Number of blocks that no request has."""
        return len(self._free)

    def reset(self, blocks: int) -> None:
        """Make all blocks free, because the worker has forgotten every request."""
        self._free.clear()
        self._free.extend(range(blocks))
        self._serve()

    def close(self) -> None:
        """Have no block free, until the next `reset`; requests go on waiting."""
        self._free.clear()

    def give_back(self, block: int) -> None:
        """Make a block free again."""
        if block not in self._free:
            self._free.append(block)
            self._serve()

    async def take(self, client: str, timeout_s: float) -> int:
        """Wait for a block. Raises RequestError("busy") where too many wait, or after `timeout_s`."""
        if self._count >= _WAITING:
            raise busy("too many requests wait")
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._count += 1
        self._serve()
        try:
            await asyncio.wait({turn}, timeout=timeout_s)
        except asyncio.CancelledError:
            if turn.done():
                self.give_back(turn.result())  # it came as its request was given up
            raise
        finally:
            self._count -= 1
            self._leave(client, turn)
        if not turn.done():
            raise busy("the device has no time for it now")
        return turn.result()

    def _leave(self, client: str, turn: "asyncio.Future[int]") -> None:
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[client]

    def _serve(self) -> None:
        while self._free and self._waiting:
            client, turns = next(iter(self._waiting.items()))
            self._waiting.move_to_end(client)
            turn = turns.popleft()
            if not turns:
                del self._waiting[client]
            turn.set_result(self._free.popleft())
