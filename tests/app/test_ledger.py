"""The worker's ledger in `cache` and in the log."""

import json
import logging

import jsonschema
import msgspec
import pytest

from agent.app.observability.cache_topic import CacheTopic
from agent.messages.children import CacheDecided, CacheState, MemoryKept, ResidentModel
from agent.messages.groups.told import CacheGroup
from agent.messages.payloads import (
    CacheCandidate,
    CacheDecision,
    CachePool,
    CacheReason,
    Pool,
    Verdict,
)
from agent.messages.schema_writer import schema

AT = "2026-01-01T06:00:00.000Z"


def decided(verdict: Verdict, reason: CacheReason, model: str = "a:n@1") -> CacheDecided:
    candidates = [CacheCandidate(model, 60, 0.25, 120.0, 0.5), CacheCandidate("b:n@1", 70, 0.5, 120.0, 0.857)]
    return CacheDecided(CacheDecision(AT, verdict, reason, model, "c:n@1", 40, 60, None, candidates))


def test_nothing_is_said_before_a_worker_has_told_its_ledger() -> None:
    ledger = CacheTopic()
    ledger.take(decided("evicted", "room"))
    ledger.worker_lost()
    assert ledger.payload() is None


def test_decisions_are_told_the_newest_last_and_counted_by_reason() -> None:
    ledger = CacheTopic()
    ledger.take(CacheState(200, 130, (ResidentModel("c:n@1", 130, "reserved", AT, "line-1,line-2"),)))
    for number in range(9):
        ledger.take(decided("evicted", "room", f"m{number}:n@1"))
    ledger.take(decided("refused", "in_use"))
    cache = ledger.payload()
    assert cache is not None
    assert [one.model for one in cache.decisions] == [*(f"m{number}:n@1" for number in range(2, 9)), "a:n@1"]
    assert (cache.evicted, cache.refused) == ({"room": 9}, {"in_use": 1})
    assert ledger.counts() == (cache.evicted, cache.refused)
    told = msgspec.json.decode(msgspec.json.encode(cache))
    assert told["models"][0]["reserved_for"] == "line-1,line-2"
    assert told["decisions"][-1]["candidates"][0] == {
        "model": "a:n@1",
        "bytes": 60,
        "rate": 0.25,
        "reload_ms": 120.0,
        "score": 0.5,
    }


def test_with_the_worker_its_memory_is_gone_and_the_counts_stay() -> None:
    ledger = CacheTopic()
    ledger.take(CacheState(200, 130, (ResidentModel("c:n@1", 130, "active", AT),)))
    ledger.take(MemoryKept(50, ("a:n@1",)))
    ledger.take(decided("refused", "too_large"))
    kept = ledger.payload()
    assert kept is not None
    assert kept.kept_bytes == 50
    ledger.worker_lost()
    cache = ledger.payload()
    assert cache is not None
    assert (cache.budget_bytes, cache.used_bytes, cache.models, cache.kept_bytes) == (200, 0, [], 0)
    assert cache.refused == {"too_large": 1}


def test_two_pools_are_told_apart_and_one_is_not() -> None:
    ledger = CacheTopic()
    pools: dict[Pool, CachePool] = {"host": CachePool(900, 40), "device": CachePool(200, 130, 30)}
    model = ResidentModel("c:n@1", 100, "active", AT, pools={"host": 40, "device": 100})
    ledger.take(CacheState(200, 130, (model,), pools, 130))
    told = msgspec.json.decode(msgspec.json.encode(ledger.payload()))
    jsonschema.validate(told, schema("cache"))
    assert told["models"][0]["pools"] == {"host": 40, "device": 100}
    assert told["pools"] == {
        "host": {"budget_bytes": 900, "used_bytes": 40, "runtime_bytes": 0},
        "device": {"budget_bytes": 200, "used_bytes": 130, "runtime_bytes": 30},
    }
    ledger.worker_lost()
    lost = ledger.payload()
    assert lost is not None
    assert lost.pools == {"host": CachePool(900, 0), "device": CachePool(200, 0)}
    ledger.take(CacheState(200, 130, (ResidentModel("c:n@1", 130, "active", AT),)))
    told = msgspec.json.decode(msgspec.json.encode(ledger.payload()))
    assert "pools" not in told
    assert "pools" not in told["models"][0]


def test_each_decision_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        CacheTopic().take(decided("evicted", "room"))
    (record,) = caplog.records
    assert record.getMessage() == (
        "event=model_evicted model=a:n@1 reason=room wanted=c:n@1 needed_bytes=40 predicted_bytes=60 "
        "actual_bytes=None scores=a:n@1=0.5,b:n@1=0.857"
    )


def test_of_several_groups_each_has_its_share_and_a_lost_worker_empties_its_own() -> None:
    ledger = CacheTopic({"default": 300, "press": 100})
    ledger.take(CacheState(350, 130, (ResidentModel("c:n@1", 130, "active", AT),)))
    ledger.take(CacheState(50, 40, (ResidentModel("c:n@1", 40, "active", AT),)), "press")
    ledger.take(MemoryKept(7, ("a:n@1",)), "press")
    cache = ledger.payload()
    assert cache is not None
    assert (cache.budget_bytes, cache.used_bytes, cache.kept_bytes) == (400, 170, 7)
    assert [(one.model, one.group, one.bytes) for one in cache.models] == [
        ("c:n@1", "default", 130),
        ("c:n@1", "press", 40),
    ]
    assert cache.groups == {"default": CacheGroup(300, 350, 130), "press": CacheGroup(100, 50, 40, 7)}
    jsonschema.validate(json.loads(msgspec.json.encode(cache)), schema("cache"))
    ledger.worker_lost("press")
    cache = ledger.payload()
    assert cache is not None
    assert [(one.group, one.bytes) for one in cache.models] == [("default", 130)]
    assert (cache.used_bytes, cache.kept_bytes) == (130, 0)


def test_one_group_alone_is_not_told() -> None:
    ledger = CacheTopic()
    ledger.take(CacheState(200, 130, (ResidentModel("c:n@1", 130, "active", AT),)))
    told = msgspec.json.decode(msgspec.json.encode(ledger.payload()))
    assert "groups" not in told
    assert "group" not in told["models"][0]
