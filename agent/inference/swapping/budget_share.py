"""The worker's share of the device's memory budget: borrows from other groups before a load, and gives back."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from agent.inference.memory.cache import Cache
from agent.inference.memory.pools import Amount, Budget
from agent.messages.children import MemoryLimit, Message
from agent.messages.groups.memory_share import Share, ShareAsked, ShareHeld, ShareRecalled

_PATIENCE_S: Final = 15.0
"""Longest wait for an answer; longer than another group's worker may hang before it is killed."""
_BESIDE_S: Final = 3.0
"""Longest wait of a recall for the end of a load; then models are evicted beside it, which blurs what is measured."""


class BudgetShare:
    """Keeper of the cache's budget, which control changes. Owner: the worker.

    Where the worker is the only one its budget stays, and `borrow` does nothing.

    Threading: `borrow` is for loading threads, `tidy` and `wait_for` for the load queue's, `take` and `recall` for the
    main thread.
    """

    def __init__(self, cache: Cache[Any], send: Callable[[Message], None], patience_s: float = _PATIENCE_S) -> None:
        self._cache: Final = cache
        self._send: Final = send
        self._patience_s: Final = patience_s
        self._answered: Final = threading.Condition()
        self._asked = 0
        self._open = 0
        """Number of the request that waits for its answer; 0: none."""
        self._recalled: ShareRecalled | None = None
        self._recalled_s = 0.0

    @property
    def recalled(self) -> ShareRecalled | None:
        """The recall for which models are to be evicted, and which `tidy` has not answered yet."""
        return self._recalled

    def borrow(self, wanted: Amount, is_requested: bool) -> None:  # noqa: FBT001 - the signature of a callback
        """Raise the budget to `wanted`, as far as control allows; waits for its answer.

        `is_requested`: a line waits for the load, so other groups evict what they have borrowed of the guaranteed part.
        """
        budget = self._cache.budget
        if self._cache.guaranteed is None or not budget.shortage(wanted).is_short:
            return
        pools = budget.in_pools(wanted)
        with self._answered:
            if self._recalled is not None:
                return  # because memory is being given back
            self._asked += 1
            number = self._open = self._asked
            self._send(ShareAsked(number, MemoryLimit(pools.host_bytes, pools.device_bytes), is_requested))
            self._answered.wait_for(lambda: self._open != number, self._patience_s)
            self._open = 0

    def take(self, share: Share) -> None:
        """Take control's answer to a request, also a late one."""
        with self._answered:
            self._cache.limit_to(self._budget(share.limit), keep_used=False)
            if self._open == share.number:
                self._open = 0
                self._answered.notify_all()

    def recall(self, recalled: ShareRecalled) -> None:
        """Lower the budget as far as its use allows, and answer; `tidy` does so where models are to be evicted."""
        self._cache.limit_to(self._budget(recalled.limit), keep_used=not recalled.evict)
        if not recalled.evict:
            self._answer(recalled)
            return
        with self._answered:
            self._recalled, self._recalled_s = recalled, time.monotonic()
            self._open = 0
            self._answered.notify_all()

    def wait_for(
        self, turn: threading.Condition, is_over: Callable[[], bool], timeout_s: float, evict: Callable[..., None]
    ) -> bool:
        """Wait as `turn.wait_for` does; a recall that has waited long enough is answered meanwhile, without `turn`.

        `turn` is notified of each recall. `evict` is as for `tidy`.
        """
        until_s = time.monotonic() + timeout_s
        while not is_over():
            now_s = time.monotonic()
            due_s = until_s if self._recalled is None else min(until_s, self._recalled_s + _BESIDE_S)
            if now_s < due_s:
                turn.wait(due_s - now_s)
            elif now_s >= until_s:
                return False
            else:
                turn.release()
                try:
                    self.tidy(evict)
                finally:
                    turn.acquire()
        return True

    def tidy(self, evict: Callable[..., None]) -> None:
        """Call `evict(is_recalled=...)`, which unloads models beyond the budget, and answer the recall."""
        recalled = self._recalled
        evict(is_recalled=recalled is not None)
        if recalled is None:
            return
        with self._answered:
            if self._recalled is recalled:
                self._recalled = None
        self._cache.limit_to(self._budget(recalled.limit), keep_used=True)
        self._answer(recalled)

    def _answer(self, recalled: ShareRecalled) -> None:
        budget = self._cache.budget
        self._send(ShareHeld(recalled.number, MemoryLimit(budget.host_bytes, budget.device_bytes or 0)))

    def _budget(self, limit: MemoryLimit) -> Budget:
        return Budget(limit.host_bytes, None if self._cache.budget.device_bytes is None else limit.device_bytes)
