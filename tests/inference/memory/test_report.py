"""The ledger as control hears of it, with one pool and with two."""

from dataclasses import dataclass

import pytest

from agent.inference.memory.cache import Cache, DeviceCharge
from agent.inference.memory.cache_report import cache_state
from agent.inference.memory.pools import Amount, Budget
from agent.messages.payloads import CachePool
from agent.messages.references import ModelVersion


@dataclass
class _Closable:
    def refuse(self, why: str) -> None:
        """Refuse nothing."""

    def close(self) -> None:
        """Free nothing."""


def filled(budget: Budget) -> Cache[_Closable]:
    """Return a cache of a model of 40 host and 100 GPU bytes, beside 30 GPU bytes that are the runtime's."""
    cache: Cache[_Closable] = Cache(budget, lambda: None)
    version = ModelVersion(name="cap", variant="n", version="1", path="/cap", sha256="c")
    entry = cache.charge(version, Amount(60, 120))
    assert entry is not None
    cache.measured(entry, 40, 0, DeviceCharge(100, is_counted=True))
    cache.account(130)
    cache.loaded(entry, _Closable(), ())
    return cache


@pytest.mark.parametrize("compute", ["auto", "cpu", "cuda:0"])
def test_one_pool_takes_all_memory_and_says_no_more(compute: str) -> None:
    state = cache_state(filled(Budget(1000)), compute)
    assert (state.budget_bytes, state.used_bytes, state.pools) == (1000, 170, None)
    assert [(model.bytes, model.pools) for model in state.models] == [(140, None)]
    assert (state.device_used_bytes, state.is_counted) == (130, True)


@pytest.mark.parametrize(
    ("compute", "plain"), [("cuda:0", (300, 130, 100)), ("tensorrt", (300, 130, 100)), ("auto", (1000, 40, 40))]
)
def test_two_pools_are_both_told_and_the_plain_figures_are_where_models_live(
    compute: str, plain: tuple[int, int, int]
) -> None:
    state = cache_state(filled(Budget(1000, 300)), compute)
    assert (state.budget_bytes, state.used_bytes, state.models[0].bytes) == plain
    assert state.models[0].pools == {"host": 40, "device": 100}
    assert state.pools == {"host": CachePool(1000, 40), "device": CachePool(300, 130, 30)}


def test_a_guess_is_told_apart_from_a_count() -> None:
    cache = filled(Budget(1000, 300))
    version = ModelVersion(name="cap", variant="n", version="2", path="/cap", sha256="d")
    entry = cache.charge(version, Amount(5, 50))
    assert entry is not None
    cache.measured(entry, 5, 0, DeviceCharge(50, is_counted=False))
    cache.account(130)
    state = cache_state(cache, "cuda:0")
    assert (state.is_counted, state.used_bytes) == (False, 180), "an allocator's count holds no guess"
