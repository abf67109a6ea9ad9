"""The ledger's invariants, under whatever its users do in whatever order."""

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.inference.memory.cache import Cache, Entry, EvictionCandidates
from agent.inference.memory.pools import Amount
from agent.messages.references import ModelVersion

BUDGET_BYTES = 100
LINES = ("line-1", "line-2")
USABLE = ("resident", "active", "pinned", "reserved", "draining")


@dataclass
class DummyModel:
    """Knows whether it was closed, and refuses to be closed twice."""

    is_closed: bool = False

    def refuse(self, why: str) -> None:
        raise AssertionError(why)

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


def version(name: str) -> ModelVersion:
    return ModelVersion(name=name, variant="n", version="1", path=f"/{name}", sha256=name)


class Clock:
    """Monotonic seconds that pass when they are told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def new_cache(changes: list[None] | None = None, clock: Clock | None = None) -> Cache[DummyModel]:
    seen = changes if changes is not None else []
    return Cache(BUDGET_BYTES, lambda: seen.append(None), clock or Clock())


def bring(cache: Cache[DummyModel], name: str, size: int, claims: tuple[str, ...] = ()) -> Entry[DummyModel]:
    entry = cache.charge(version(name), size)
    assert entry is not None
    cache.loaded(entry, DummyModel(), claims)
    return entry


def drop(cache: Cache[DummyModel], entry: Entry[DummyModel]) -> None:
    model = cache.begin_release(entry)
    assert model is not None
    model.close()
    assert cache.returned(entry, entry.bytes) == 0


def names(entries: tuple[Entry[DummyModel], ...]) -> set[str]:
    return {entry.version.name for entry in entries}


def could_go(standing: EvictionCandidates[DummyModel]) -> tuple[set[str], set[str], set[str], set[str]]:
    return names(standing.standby), names(standing.leave), names(standing.announced), names(standing.kept)


def test_bytes_are_charged_from_before_the_load_until_they_are_back() -> None:
    changes: list[None] = []
    cache = new_cache(changes)
    entry = cache.charge(version("a"), 60)
    assert entry is not None
    assert (cache.used_bytes, entry.state) == (60, "loading")
    assert cache.charge(version("b"), 41) is None
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


def test_a_version_in_the_ledger_is_not_charged_twice() -> None:
    cache = new_cache()
    assert cache.charge(version("a"), 10) is not None
    assert cache.charge(version("a"), 10) is None
    assert cache.used_bytes == 10


def test_bytes_that_grew_meanwhile_are_not_charged_to_a_release() -> None:
    cache = new_cache()
    entry = bring(cache, "a", 40)
    cache.begin_release(entry)
    assert cache.returned(entry, -5) == 40


def test_a_model_under_two_frames_stays_until_both_are_answered() -> None:
    cache = new_cache()
    entry = bring(cache, "a", 10, ("line-1",))
    cache.lease(entry)
    cache.lease(entry)
    cache.unclaim(entry, "line-1")
    cache.unlease(entry)
    assert cache.begin_release(entry) is None
    cache.unlease(entry)
    drop(cache, entry)


def test_a_model_that_was_announced_while_it_loaded_is_reserved() -> None:
    cache = new_cache(clock=Clock())
    entry = cache.charge(version("a"), 10)
    assert entry is not None
    cache.loaded(entry, DummyModel(), (), {"line-1": 10.0})
    assert (entry.state, cache.begin_release(entry)) == ("reserved", None)


def test_a_model_is_pinned_until_its_line_has_flipped_and_active_from_then_on() -> None:
    cache = new_cache()
    old, new = bring(cache, "old", 10, ("line-1",)), bring(cache, "new", 10, ("line-1", "line-2"))
    assert (old.state, new.state) == ("pinned", "pinned")
    cache.activate("line-1", None, old)
    cache.activate("line-1", old, new)
    assert (old.state, new.state) == ("resident", "active")
    cache.unclaim(new, "line-1")
    assert new.state == "pinned", "the other line has not flipped yet"
    with pytest.raises(AssertionError):
        cache.activate("line-1", None, new)


def test_a_reserved_model_stays_until_its_time_is_over() -> None:
    clock = Clock()
    changes: list[None] = []
    cache = new_cache(changes, clock)
    entry = bring(cache, "a", 40)
    assert not cache.reserve(version("b"), "line-1", 10)
    assert cache.reserve(version("a"), "line-1", 10)
    assert cache.reserve(version("a"), "line-2", 20)
    assert (entry.state, cache.begin_release(entry)) == ("reserved", None)
    assert cache.rows()[0].reserved_for == ("line-1", "line-2")
    told = len(changes)
    assert (cache.expire(), len(changes)) == (10, told)
    clock.now_s = 10
    assert (cache.expire(), len(changes), entry.state) == (10, told + 1, "reserved")
    assert cache.reserve(version("a"), "line-2", 15)
    clock.now_s = 15
    assert (cache.expire(), entry.state) == (None, "resident")
    drop(cache, entry)


def test_the_changeover_that_a_model_was_kept_for_ends_its_reservation() -> None:
    cache = new_cache()
    entry = bring(cache, "a", 40)
    cache.reserve(version("a"), "line-1", 10)
    cache.reserve(version("a"), "line-2", 10)
    cache.claim(version("a"), "line-1")
    assert (entry.state, entry.reservations) == ("pinned", {"line-2": 10})
    cache.unclaim(entry, "line-1")
    cache.unreserve(version("a"), "line-2")
    assert entry.is_evictable


def test_what_could_go_is_told_by_who_holds_it() -> None:
    cache = new_cache()
    for name, claims, reserved in (("s", (), ()), ("a", LINES[:1], ()), ("b", LINES, ()), ("r", (), LINES[:1])):
        bring(cache, name, 20, claims)
        for line in reserved:
            cache.reserve(version(name), line, 10)
    assert cache.eviction_candidates(Amount(30), ()).short.host_bytes == 10
    assert could_go(cache.eviction_candidates(Amount(30), ())) == ({"s"}, set(), set(), {"a", "b", "r"})
    assert could_go(cache.eviction_candidates(Amount(30), LINES[:1])) == ({"s"}, {"a"}, {"r"}, {"b"})
    assert could_go(cache.eviction_candidates(Amount(30), LINES)) == ({"s"}, {"a", "b"}, {"r"}, set())
    cache.reserve(version("a"), "line-2", 10)
    assert could_go(cache.eviction_candidates(Amount(30), LINES[:1])) == ({"s"}, set(), {"r"}, {"a", "b"})


def test_misuse_is_loud() -> None:
    cache = new_cache()
    entry = cache.charge(version("a"), 10)
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
        self.clock = Clock()
        self.cache: Cache[DummyModel] = new_cache(clock=self.clock)
        self.entries: list[Entry[DummyModel]] = []
        self.charged: dict[int, int] = {}
        self.excess = 0
        self.names = itertools.count()

    def pick(self, data: st.DataObject, *states: str) -> Entry[DummyModel] | None:
        fitting = [entry for entry in self.entries if entry.state in states]
        return data.draw(st.sampled_from(fitting)) if fitting else None

    @rule(size=st.integers(0, 130), name=st.integers(0, 6))
    def charge(self, size: int, name: int) -> None:
        used = self.cache.used_bytes
        entry = self.cache.charge(version(str(name)), size)
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

    @rule(data=st.data(), claims=st.sets(st.sampled_from(LINES)), announced=st.sets(st.sampled_from(LINES)))
    def finish(self, data: st.DataObject, claims: set[str], announced: set[str]) -> None:
        if (entry := self.pick(data, "loading")) is not None:
            self.cache.loaded(entry, DummyModel(), claims, dict.fromkeys(announced, self.clock.now_s + 5))

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        if (entry := self.pick(data, "loading")) is not None:
            self.cache.abandon(entry)

    @rule(data=st.data(), line=st.sampled_from(LINES))
    def claim(self, data: st.DataObject, line: str) -> None:
        if (entry := self.pick(data, *USABLE)) is not None:
            assert self.cache.claim(entry.version, line) is entry
            assert line not in entry.reservations

    @rule(data=st.data(), line=st.sampled_from(LINES))
    def activate(self, data: st.DataObject, line: str) -> None:
        claimed = [entry for entry in self.entries if line in entry.claims]
        if claimed:
            before = data.draw(st.sampled_from(claimed))
            entry = data.draw(st.sampled_from(claimed))
            self.cache.activate(line, before, entry)
            assert entry.state == "active"

    @rule(data=st.data(), line=st.sampled_from(LINES), hold_s=st.integers(0, 9))
    def announce(self, data: st.DataObject, line: str, hold_s: int) -> None:
        if (entry := self.pick(data, *USABLE)) is not None:
            assert self.cache.reserve(entry.version, line, self.clock.now_s + hold_s)

    @rule(data=st.data(), line=st.sampled_from(LINES))
    def take_back(self, data: st.DataObject, line: str) -> None:
        if (entry := self.pick(data, *USABLE)) is not None:
            self.cache.unreserve(entry.version, line)

    @rule(passes_s=st.integers(1, 5))
    def time_passes(self, passes_s: int) -> None:
        self.clock.now_s += passes_s
        next_s = self.cache.expire()
        ends_s = [until_s for entry in self.entries for until_s in entry.reservations.values()]
        assert all(until_s > self.clock.now_s for until_s in ends_s)
        assert next_s == (min(ends_s) - self.clock.now_s if ends_s else None)

    @rule(data=st.data(), line=st.sampled_from(LINES))
    def unclaim(self, data: st.DataObject, line: str) -> None:
        if (entry := self.pick(data, "active", "pinned")) is not None:
            self.cache.unclaim(entry, line)

    @rule(data=st.data())
    def lease(self, data: st.DataObject) -> None:
        if (entry := self.pick(data, "active", "pinned")) is not None:
            assert not self.cache.lease(entry).is_closed

    @rule(data=st.data())
    def unlease(self, data: st.DataObject) -> None:
        leased = [entry for entry in self.entries if entry.leases]
        if leased:
            self.cache.unlease(data.draw(st.sampled_from(leased)))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if (entry := self.pick(data, *USABLE)) is not None:
            may = not entry.claims and not entry.leases and not entry.reservations
            model = self.cache.begin_release(entry)
            assert (model is not None) == may
            if model is not None:
                model.close()

    @precondition(lambda self: any(e.state == "releasing" for e in self.entries))
    @rule(data=st.data(), share=st.integers(0, 130))
    def wait_freed(self, data: st.DataObject, share: int) -> None:
        entry = self.pick(data, "releasing")
        assert entry is not None
        left = self.cache.returned(entry, share)
        self.charged[id(entry)] = left
        if not left:
            self.entries.remove(entry)

    @rule(needed=st.integers(0, 130), leaving=st.sets(st.sampled_from(LINES)))
    def look(self, needed: int, leaving: set[str]) -> None:
        standing = self.cache.eviction_candidates(Amount(needed), leaving)
        assert standing.short.host_bytes == self.cache.used_bytes + needed - BUDGET_BYTES
        assert all(entry.is_evictable for entry in standing.standby)
        assert all(e.claims | set(e.reservations) <= leaving and (e.claims or e.leases) for e in standing.leave)
        assert all(e.reservations and set(e.reservations) <= leaving and not e.claims for e in standing.announced)
        resident = [entry for entry in self.entries if entry.phase == "resident"]
        told = (*standing.standby, *standing.leave, *standing.announced, *standing.kept)
        assert sorted(map(id, told)) == sorted(map(id, resident)), "each is told once"

    @invariant()
    def the_account_agrees(self) -> None:
        rows = self.cache.rows()
        assert sorted(row.bytes for row in rows) == sorted(self.charged[id(e)] for e in self.entries)
        assert all(row.bytes >= 0 for row in rows)
        assert 0 <= self.cache.used_bytes <= BUDGET_BYTES + self.excess

    @invariant()
    def a_model_in_use_or_reserved_is_open(self) -> None:
        for entry in self.entries:
            if entry.claims or entry.leases or entry.reservations:
                assert entry.model is not None
                assert not entry.model.is_closed

    @invariant()
    def a_line_is_served_by_what_it_claims(self) -> None:
        for entry in self.entries:
            assert entry.serving <= entry.claims
            assert (entry.state == "active") == bool(entry.serving)


Ledger.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_the_ledgers_invariants_hold = Ledger.TestCase


def test_the_last_picture_of_a_model_that_its_line_has_left_is_told() -> None:
    told: list[str] = []
    cache: Cache[DummyModel] = Cache(100, lambda: told.append(cache.rows()[0].state))
    entry = cache.charge(version("a"), 1)
    assert entry is not None
    cache.loaded(entry, DummyModel(), {"line-1"})
    for _ in range(2):
        cache.lease(entry)
    cache.unlease(entry)
    cache.lease(entry)
    assert told == ["loading", "pinned"], "frames of a line are no news"
    cache.unclaim(entry, "line-1")
    cache.unlease(entry)
    assert told[2:] == ["draining"]
    cache.unlease(entry)
    assert told[2:] == ["draining", "resident"]


def test_requests_to_a_model_that_no_line_claims_are_no_news() -> None:
    told: list[str] = []
    cache: Cache[DummyModel] = Cache(100, lambda: told.append(cache.rows()[0].state))
    entry = cache.charge(version("a"), 1)
    assert entry is not None
    cache.loaded(entry, DummyModel(), set(), requests_until_s=math.inf)
    before = list(told)
    for _ in range(3):
        with cache.borrowed(entry.version, is_request=True) as model:
            assert model is not None
    assert told == before
