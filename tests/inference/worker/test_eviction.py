"""Choice of evicted models: the set with the least expected cost, by plain arithmetic."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.memory.eviction import MINIMUM_AGE_S, Eviction, Standby

MIB = 1 << 20


def used(*references: str) -> Eviction:
    policy = Eviction()
    for reference in references:
        policy.used(reference)
    return policy


def standby(reference: str, mib: int = 100, reload_ms: float = 100.0, age_s: float = 1e6) -> Standby:
    return Standby(reference, mib * MIB, reload_ms, age_s)


def choose(policy: Eviction, candidates: list[Standby], short_mib: int) -> set[str] | None:
    chosen = policy.choose(candidates, short_mib * MIB)
    return None if chosen is None else set(chosen)


def test_the_one_used_longest_ago_goes_where_all_else_is_equal() -> None:
    policy = used("a", "b", "c")
    assert choose(policy, [standby(name) for name in "cba"], 50) == {"a"}


def test_preloaded_models_go_first_whatever_they_cost_and_however_young_they_are() -> None:
    policy = used("cheap", "dear", "guess")
    guess = Standby("guess", 100 * MIB, 10_000.0, 0.0, is_preloaded=True)
    other = Standby("other", 60 * MIB, 20_000.0, 0.0, is_preloaded=True)
    cheap = standby("cheap", 100, 1.0)
    assert choose(policy, [cheap, guess], 50) == {"guess"}
    assert choose(policy, [cheap, guess, other], 50) == {"other"}, "the one that was never used"
    assert choose(policy, [cheap, standby("dear", 100, 900.0), guess], 150) == {"guess", "cheap"}


def test_a_habit_counts_for_more_than_the_last_use() -> None:
    policy = used("rare", *["often", "x"] * 5, "often", "rare")
    assert choose(policy, [standby("often"), standby("rare")], 50) == {"rare"}, "though it was used last"


def test_of_a_levelled_sequence_the_one_that_comes_back_last_goes() -> None:
    policy = used(*"abcd" * 5)
    assert choose(policy, [standby(name) for name in "abcd"], 50) == {"d"}, "though it was used last"
    assert choose(policy, [standby(name) for name in "abcd"], 250) == {"b", "c", "d"}


def test_a_product_that_runs_again_after_a_long_pause_is_not_judged_by_the_pause() -> None:
    policy = used(*"ab" * 5, *"cd" * 10, *"ab")
    assert choose(policy, [standby(name) for name in "abcd"], 150) == {"c", "d"}


def test_a_line_that_changes_often_makes_nothing_of_another_line_older() -> None:
    policy = used("once", *"ab" * 5)
    for name in "xy" * 20:
        policy.used(name, "other")
    assert policy.rate("a") > policy.rate("once") > 0
    assert choose(policy, [standby("a"), standby("once")], 50) == {"once"}
    alone = used("once", *"ab" * 5)
    shares = policy.rate("a") / policy.rate("once"), alone.rate("a") / alone.rate("once")
    assert shares[0] == pytest.approx(shares[1], rel=0.35), "all of the line counts for less, and nothing more"


def test_a_habit_that_ended_is_forgotten() -> None:
    policy = used(*"abababab", *"cdcdcdcdcdcd")
    assert choose(policy, [standby(name) for name in "abcd"], 150) == {"a", "b"}


@pytest.mark.parametrize(
    ("one", "other", "goes"),
    [
        (standby("one", reload_ms=900), standby("other", reload_ms=100), "other"),
        (standby("one", reload_ms=100), standby("other", reload_ms=900), "one"),
    ],
)
def test_what_is_dear_to_load_stays(one: Standby, other: Standby, goes: str) -> None:
    assert choose(used("one", "other", "one", "other"), [one, other], 50) == {goes}


def test_one_large_model_goes_before_several_small_ones_that_cost_more_together() -> None:
    policy = used(*"sabcdsabcds")
    candidates = [standby(name, 25, 100) for name in "abcd"] + [standby("s", 100, 300)]
    assert choose(policy, candidates, 100) == {"s"}
    assert len(choose(policy, candidates, 25) or ()) == 1
    assert choose(policy, candidates, 25) != {"s"}


def test_a_model_that_was_never_used_goes_first() -> None:
    assert choose(used("a"), [standby("a", 100, 1.0), standby("guess", 100, 5000.0)], 50) == {"guess"}


def test_the_young_are_spared_but_never_at_the_price_of_a_refusal() -> None:
    policy = used("old", "old", "old", "new")
    old, new = standby("old", age_s=MINIMUM_AGE_S), standby("new", age_s=MINIMUM_AGE_S / 2)
    for _ in range(9):
        policy.used("old")
    assert choose(policy, [old, new], 50) == {"old"}, "it is worth more, and no newcomer"
    assert choose(policy, [old, new], 150) == {"old", "new"}
    assert choose(policy, [new], 50) == {"new"}


def test_nothing_is_chosen_where_nothing_is_short_and_none_where_nothing_helps() -> None:
    assert Eviction().choose([standby("a")], 0) == ()
    assert Eviction().choose([standby("a")], 101 * MIB) is None
    assert Eviction().choose([], 1) is None


def test_scores_say_how_they_came_about() -> None:
    policy = used("a", "b", "a", "b")
    first, second = policy.scores([standby("b", 50, 200.0), standby("a", 50, 50.0, 1.0)])
    assert (first.reference, first.bytes, first.reload_ms, first.is_young) == ("a", 50 * MIB, 50.0, True)
    assert (first.rate, first.score) == (policy.rate("a"), policy.rate("a") * 50.0 / 50)
    assert (second.reference, second.score, second.is_young) == ("b", policy.rate("b") * 200.0 / 50, False)
    assert policy.rate("a") > policy.rate("b") > 0, "its turn is next"


def test_a_thousand_models_are_not_remembered() -> None:
    policy = Eviction()
    for number in range(1000):
        policy.used(str(number))
    assert policy.rate("0") == 0
    assert policy.rate("999") > policy.rate("900") > 0


CANDIDATES = st.lists(st.tuples(st.integers(0, 200), st.floats(0, 5000), st.booleans()), max_size=14)


@given(CANDIDATES, st.integers(1, 1500), st.lists(st.integers(0, 13), max_size=40))
def test_the_set_is_enough_minimal_and_of_all_sets_the_cheapest(
    sizes: list[tuple[int, float, bool]], short_mib: int, uses: list[int]
) -> None:
    policy = used(*map(str, uses))
    candidates = [
        standby(str(i), mib, cost_ms, 0.0 if is_young else 1e6) for i, (mib, cost_ms, is_young) in enumerate(sizes)
    ]
    chosen = policy.choose(candidates, short_mib * MIB)
    if chosen is None:
        assert sum(one.bytes for one in candidates) < short_mib * MIB
        return
    size_of = {one.reference: one.bytes for one in candidates}
    freed = sum(size_of[reference] for reference in chosen)
    assert freed >= short_mib * MIB
    assert all(freed - size_of[reference] < short_mib * MIB for reference in chosen), "one could have stayed"
    old = [one for one in candidates if one.age_s >= MINIMUM_AGE_S]
    pool = old if sum(one.bytes for one in old) >= short_mib * MIB else candidates
    if len(pool) <= 8:
        losses = {one.reference: policy.rate(one.reference) * one.reload_ms for one in pool}
        sets = (one for count in range(len(pool) + 1) for one in itertools.combinations(pool, count))
        enough = (one for one in sets if sum(member.bytes for member in one) >= short_mib * MIB)
        least_ms = min(sum(losses[member.reference] for member in one) for one in enough)
        assert sum(losses[reference] for reference in chosen) == pytest.approx(least_ms)
