"""Converts the cache's state to the message that control publishes: each model, and the pools if there are two."""

import time
from dataclasses import dataclass
from typing import Any

from agent.inference.memory.cache import Cache, Row
from agent.inference.memory.pools import Amount, is_gpu
from agent.messages.children import CacheState, ResidentModel
from agent.messages.payloads import CachePool, Pool
from agent.messages.texts.utc import utc_text_of_ns


@dataclass(frozen=True)
class _View:
    """Choice of the pools that a message lists."""

    pools: tuple[Pool, ...]
    """Both pools; empty where host and GPU share one."""
    plain: Pool
    """Pool that the byte figures outside `pools` refer to: the one that models are loaded into."""

    def bytes_of(self, amount: Amount) -> int:
        if not self.pools:
            return amount.total_bytes
        return _in_pool(amount, self.plain)


def cache_state(cache: Cache[Any], compute: str) -> CacheState:
    """Return the cache's present state as a message.

    The device setting `compute` tells whether models are loaded into host or GPU memory.
    """
    rows, used, runtimes_bytes = cache.statement()
    budget = cache.budget
    if budget.device_bytes is None:
        view, limits = _View((), "host"), Amount(budget.host_bytes)
    else:
        view = _View(("host", "device"), "device" if is_gpu(compute) else "host")
        limits = Amount(budget.host_bytes, budget.device_bytes)
    runtimes = Amount(0, runtimes_bytes)
    pools = {
        pool: CachePool(_in_pool(limits, pool), _in_pool(used, pool), _in_pool(runtimes, pool)) for pool in view.pools
    }
    models = tuple(_resident(row, view) for row in rows)
    is_counted = all(row.is_counted for row in rows if row.charge.device_bytes)
    plain = (view.bytes_of(limits), view.bytes_of(used))
    return CacheState(*plain, models, pools or None, used.device_bytes, is_counted)


def _resident(row: Row, view: _View) -> ResidentModel:
    last_use_unix_ns = time.time_ns() - (time.monotonic_ns() - row.last_use_ns)
    reserved_for = ",".join(row.reserved_for) or None
    pools = {pool: _in_pool(row.charge, pool) for pool in view.pools}
    last_use = utc_text_of_ns(last_use_unix_ns)
    return ResidentModel(row.reference, view.bytes_of(row.charge), row.state, last_use, reserved_for, pools or None)


def _in_pool(amount: Amount, pool: Pool) -> int:
    return amount.host_bytes if pool == "host" else amount.device_bytes
