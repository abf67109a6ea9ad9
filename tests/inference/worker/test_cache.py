"""The ledger's invariants, under whatever its users do in whatever order."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.inference.cache import Cache, Entry, Plan
from agent.messages.references import ModelVersion

BUDGET_BYTES = 100
LINES = ("line-1", "line-2")


@dataclass
class DummyModel:
    """Knows whether it was closed, and refuses to be closed twice."""

    is_closed: bool = False

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


def version(name: str) -> ModelVersion:
    return ModelVersion(name=name, variant="n", version="1", path=f"/{name}", sha256=name)


def new_cache(changes: list[None] | None = None) -> Cache[DummyModel]:
    seen = changes if changes is not None else []
    return Cache(BUDGET_BYTES, lambda: seen.append(None))


def bring(cache: Cache[DummyModel], name: str, size: int, claims: tuple[str, ...] = ()) -> Entry[DummyModel]:
    entry = cache.reserve(version(name), size)
    assert entry is not None
    cache.loaded(entry, DummyModel(), claims)
    return entry


def drop(cache: Cache[DummyModel], entry: Entry[DummyModel]) -> None:
    model = cache.begin_release(entry)
    assert model is not None
    model.close()
    assert cache.returned(entry, entry.bytes) == 0


def names(plan: Plan[DummyModel] | None) -> tuple[list[str], list[str]]:
    assert plan is not None
    return [e.version.name for e in plan.evict], [e.version.name for e in plan.leave]


def test_bytes_are_charged_from_before_the_load_until_they_are_back() -> None:
    changes: list[None] = []
    cache = new_cache(changes)
    entry = cache.reserve(version("a"), 60)
    assert entry is not None
    assert (cache.used_bytes, entry.state) == (60, "loading")
    assert cache.reserve(version("b"), 41) is None
    assert cache.measured(entry, 50) == 0
    cache.loaded(entry, DummyModel(), ())
    assert (cache.used_bytes, entry.state) == (50, "resident")
    assert cache.begin_release(entry) is not None
    assert (cache.used_bytes, entry.state) == (50, "releasing")
    assert cache.returned(entry, 20) == 30
    assert (cache.used_bytes, cache.rows()[0].bytes) == (30, 30)
    assert cache.returned(entry, 99) == 0
    assert (cache.used_bytes, cache.rows()) == (0, ())
    assert len(changes) == 6


def test_bytes_that_stay_away_do_not_stop_a_new_load() -> None:
    cache = new_cache()
    entry = bring(cache, "a", 40)
    cache.begin_release(entry)
    cache.returned(entry, 30)
    assert cache.claim(version("a"), "line-1") is None
    again = bring(cache, "a", 40)
    assert cache.claim(version("a"), "line-1") is again
    assert cache.used_bytes == 50


def test_only_the_unused_can_be_released() -> None:
    cache = new_cache()
    entry = bring(cache, "a", 10, ("line-1",))
    assert cache.begin_release(entry) is None
    cache.lease(entry)
    cache.unclaim(entry, "line-1")
    assert [row.state for row in cache.rows()] == ["draining"]
    assert cache.begin_release(entry) is None
    cache.unlease(entry)
    assert [row.state for row in cache.rows()] == ["resident"]
    drop(cache, entry)


def test_the_one_used_longest_ago_goes_first_and_no_more_than_must() -> None:
    cache = new_cache()
    entries = [bring(cache, name, 30) for name in "abc"]
    cache.lease(entries[0])
    cache.unlease(entries[0])
    assert names(cache.plan(10, ())) == ([], [])
    assert names(cache.plan(20, ())) == (["b"], [])
    assert names(cache.plan(60, ())) == (["b", "c"], [])
    assert names(cache.plan(100, ())) == (["b", "c", "a"], [])
    assert cache.plan(101, LINES) is None


def test_the_active_one_goes_only_if_its_lines_leave_and_nothing_else_helps() -> None:
    cache = new_cache()
    bring(cache, "a", 50, ("line-1",))
    bring(cache, "s", 30)
    assert names(cache.plan(50, ("line-1",))) == (["s"], [])
    assert names(cache.plan(60, ("line-1",))) == ([], ["a"])
    assert names(cache.plan(90, ("line-1",))) == (["s"], ["a"])
    assert cache.plan(60, ("line-2",)) is None
    assert cache.plan(101, LINES) is None


def test_a_model_that_two_lines_use_stays_for_the_one_that_remains() -> None:
    cache = new_cache()
    bring(cache, "a", 80, LINES)
    assert cache.plan(60, ("line-1",)) is None
    assert names(cache.plan(60, LINES)) == ([], ["a"])


def test_misuse_is_loud() -> None:
    cache = new_cache()
    entry = cache.reserve(version("a"), 10)
    assert entry is not None
    for misuse in (lambda: cache.lease(entry), lambda: cache.unlease(entry), lambda: cache.returned(entry, 1)):
        with pytest.raises(AssertionError):
            misuse()
    cache.loaded(entry, DummyModel(), ())
    with pytest.raises(AssertionError):
        cache.loaded(entry, DummyModel(), ())


class Ledger(RuleBasedStateMachine):
    """Two lines and a loader do anything they may, in any order; a plain account is kept beside."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache[DummyModel] = new_cache()
        self.entries: list[Entry[DummyModel]] = []
        self.charged: dict[int, int] = {}
        self.excess = 0
        self.names = itertools.count()

    def pick(self, data: st.DataObject, *states: str) -> Entry[DummyModel] | None:
        fitting = [entry for entry in self.entries if entry.state in states]
        return data.draw(st.sampled_from(fitting)) if fitting else None

    @rule(size=st.integers(0, 130), name=st.integers(0, 6))
    def reserve(self, size: int, name: int) -> None:
        used = self.cache.used_bytes
        entry = self.cache.reserve(version(str(name)), size)
        if entry is None:
            known = {e.version.name for e in self.entries if e.state != "releasing"}
            assert used + size > BUDGET_BYTES or str(name) in known
            return
        self.entries.append(entry)
        self.charged[id(entry)] = size

    @rule(data=st.data(), size=st.integers(-5, 130))
    def measure(self, data: st.DataObject, size: int) -> None:
        if (entry := self.pick(data, "loading")) is not None:
            self.excess += max(0, size - entry.bytes)
            self.cache.measured(entry, size)
            self.charged[id(entry)] = max(0, size)

    @rule(data=st.data(), claims=st.sets(st.sampled_from(LINES)))
    def finish(self, data: st.DataObject, claims: set[str]) -> None:
        if (entry := self.pick(data, "loading")) is not None:
            self.cache.loaded(entry, DummyModel(), claims)

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        if (entry := self.pick(data, "loading")) is not None:
            self.cache.abandon(entry)

    @rule(data=st.data(), line=st.sampled_from(LINES))
    def claim(self, data: st.DataObject, line: str) -> None:
        if (entry := self.pick(data, "resident", "active", "draining")) is not None:
            assert self.cache.claim(entry.version, line) is entry

    @rule(data=st.data(), line=st.sampled_from(LINES))
    def unclaim(self, data: st.DataObject, line: str) -> None:
        if (entry := self.pick(data, "active")) is not None:
            self.cache.unclaim(entry, line)

    @rule(data=st.data())
    def lease(self, data: st.DataObject) -> None:
        if (entry := self.pick(data, "active")) is not None:
            assert not self.cache.lease(entry).is_closed

    @rule(data=st.data())
    def unlease(self, data: st.DataObject) -> None:
        leased = [entry for entry in self.entries if entry.leases]
        if leased:
            self.cache.unlease(data.draw(st.sampled_from(leased)))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if (entry := self.pick(data, "resident", "active", "draining")) is not None:
            may = not entry.claims and not entry.leases
            model = self.cache.begin_release(entry)
            assert (model is not None) == may
            if model is not None:
                model.close()

    @precondition(lambda self: any(e.state == "releasing" for e in self.entries))
    @rule(data=st.data(), share=st.integers(0, 130))
    def see_back(self, data: st.DataObject, share: int) -> None:
        entry = self.pick(data, "releasing")
        assert entry is not None
        left = self.cache.returned(entry, share)
        self.charged[id(entry)] = left
        if not left:
            self.entries.remove(entry)

    @rule(needed=st.integers(0, 130), leaving=st.sets(st.sampled_from(LINES)))
    def plan(self, needed: int, leaving: set[str]) -> None:
        plan = self.cache.plan(needed, leaving)
        if plan is None:
            return
        freed = sum(entry.bytes for entry in (*plan.evict, *plan.leave))
        assert self.cache.used_bytes - freed + needed <= BUDGET_BYTES
        assert all(entry.is_evictable for entry in plan.evict)
        assert all(entry.claims and entry.claims <= leaving for entry in plan.leave)

    @invariant()
    def the_account_agrees(self) -> None:
        rows = self.cache.rows()
        assert sorted(row.bytes for row in rows) == sorted(self.charged[id(e)] for e in self.entries)
        assert all(row.bytes >= 0 for row in rows)
        assert 0 <= self.cache.used_bytes <= BUDGET_BYTES + self.excess

    @invariant()
    def a_model_in_use_is_open(self) -> None:
        for entry in self.entries:
            if entry.claims or entry.leases:
                assert entry.model is not None
                assert not entry.model.is_closed


Ledger.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_the_ledgers_invariants_hold = Ledger.TestCase
