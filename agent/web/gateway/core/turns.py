"""Gives the blocks of shared memory to requests, in turns between clients."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from agent.web.gateway.core.faults import busy

_WAITING: Final = 128
"""Requests that wait for a block, of all clients; a further one is refused."""
_NEWEST: Final = 0.125
"""Weight of the newest interval in the moving average."""
_SURELY: Final = 2.0
"""A request is refused early where it would wait this much longer than it may, because the average may mislead."""


class Turns:
    """Fair queue for blocks: the client that got one longest ago comes first. For the event loop's thread.

    A block is its request's until that gives it back, whatever becomes of the worker meanwhile. Blocks are given only
    while a worker answers.
    """

    def __init__(self, blocks: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Have so many blocks, none of which is given before `open`."""
        self._clock: Final = clock
        self._free: Final[deque[int]] = deque(range(blocks))
        self._is_open = False
        self._waiting: Final[OrderedDict[str, deque[asyncio.Future[int]]]] = OrderedDict()
        self._count = 0
        self._interval_s = 0.0
        """Usual time from one block that comes back to the next, while requests wait."""
        self._came_s = 0.0

    @property
    def free_blocks(self) -> int:
        """Number of blocks that no request has."""
        return len(self._free)

    def open(self) -> None:
        """Give the blocks that are free, because a worker answers that uses none of them."""
        self._is_open = True
        self._came_s = 0.0
        self._serve()

    def close(self) -> None:
        """Give no block until `open`; requests go on waiting."""
        self._is_open = False

    def give_back(self, block: int) -> None:
        """Make a block free again; its request calls this once."""
        self._free.append(block)
        self._note()
        self._serve()

    async def take(self, client: str, timeout_s: float) -> int:
        """Wait for a block. Raises RequestError("busy") after `timeout_s`, or at once where that is sure."""
        if self._count >= _WAITING:
            raise busy("too many requests wait")
        wait_s = self._expected_s(client)
        if wait_s > timeout_s * _SURELY:
            raise busy(f"the requests before it take about {wait_s:.0f} s", min(60.0, wait_s - timeout_s))
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

    def _expected_s(self, client: str) -> float:
        """Return the time that a further request of a client would wait, since clients take turns; 0: unknown."""
        if self._free and self._is_open:
            return 0.0
        own = len(self._waiting.get(client, ()))
        before = own + sum(min(len(turns), own + 1) for name, turns in self._waiting.items() if name != client)
        return before * self._interval_s

    def _note(self) -> None:
        """Record that a block came back; only between two that were waited for is the interval one of work."""
        now_s = self._clock()
        if self._waiting and self._came_s:
            self._interval_s += (now_s - self._came_s - self._interval_s) * (_NEWEST if self._interval_s else 1.0)
        self._came_s = now_s if self._waiting else 0.0

    def _leave(self, client: str, turn: "asyncio.Future[int]") -> None:
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[client]

    def _serve(self) -> None:
        while self._is_open and self._free and self._waiting:
            client, turns = next(iter(self._waiting.items()))
            self._waiting.move_to_end(client)
            turn = turns.popleft()
            if not turns:
                del self._waiting[client]
            turn.set_result(self._free.popleft())
