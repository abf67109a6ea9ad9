"""The simulated cache, played by hand, and the optimum, held against every possible choice."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.bench.cache.belady_bound import BeladyBound
from agent.bench.cache.cache import COSTS, play, summary
from agent.bench.cache.changeovers import Changeover, Header, Trace, generate
from agent.bench.cache.policies import AgentPolicy, Lru
from agent.bench.cache.simulator import Cost, Simulator

SMALL, LARGE = Cost(10, 1.0), Cost(30, 5.0)
COST = {"a": SMALL, "b": SMALL, "c": SMALL, "x": LARGE}


def trace(models: Sequence[str], every_s: int = 100, line: str = "line-1") -> list[Changeover]:
    return [Changeover(number * every_s, model, line) for number, model in enumerate(models, 1)]


def test_lru_evicts_what_was_used_longest_ago() -> None:
    outcome = Simulator(COST, 20, Lru()).run(trace("abab" + "c" + "b" + "a"))
    assert (outcome.found, outcome.stall_s, outcome.evictions) == (3, 4.0, 2), "c took a's place, a took c's"


def test_what_serves_is_not_evicted_while_it_fits_beside() -> None:
    outcome = Simulator(COST, 40, Lru()).run(trace("abxa"))
    assert outcome.stall_s == 1 + 1 + 5 + 1
    assert outcome.evictions == 2, "a for x, which b served beside; b for a"


def test_what_serves_goes_first_where_it_does_not_fit_beside() -> None:
    outcome = Simulator(COST, 30, Lru()).run(trace("axa"))
    assert (outcome.stall_s, outcome.evictions) == (1 + 5 + 1, 2)


def test_an_announced_model_is_found_and_kept_for_its_line() -> None:
    mine = trace("axa")
    unannounced = Simulator(COST, 40, Lru()).run(mine)
    announced = Simulator(COST, 40, Lru(), lead_s=50).run(mine)
    assert (unannounced.found, announced.found) == (1, 3)


def test_a_load_that_is_not_over_stalls_for_the_rest_of_it() -> None:
    assert Simulator(COST, 40, Lru(), lead_s=2).run(trace("x")).stall_s == 3


def test_an_order_is_announced_when_the_one_before_it_begins_at_the_earliest() -> None:
    outcome = Simulator(COST, 40, Lru(), lead_s=1000).run(trace("xax", every_s=3))
    assert outcome.changeovers == 3
    assert outcome.found == 3


def test_likely_models_come_in_between_changeovers_and_evict_nothing() -> None:
    roomy = Simulator(COST, 60, Lru(), preloads=True).run(trace("abcx"))
    assert (roomy.found, roomy.preloads, roomy.evictions) == (4, 4, 0), "before the first changeover, too"
    tight = Simulator(COST, 30, Lru(), preloads=True).run(trace("abax"))
    assert (tight.found, tight.preloads, tight.evictions) == (3, 3, 3), "a, b and c fit; x takes their places"


def test_a_changeover_overtakes_a_preload() -> None:
    outcome = Simulator(COST, 60, Lru(), preloads=True).run(
        [Changeover(0, "a", "line-1"), Changeover(3, "x", "line-1")]
    )
    assert (outcome.found, outcome.preloads) == (0, 2), "b and c were loaded, x was not done"


def test_what_followed_the_present_model_is_preloaded_first() -> None:
    costs = {"a": SMALL, "b": SMALL, "c": SMALL, "d": SMALL, "x": LARGE}
    outcome = Simulator(costs, 30, Lru(), preloads=True).run(trace("adadxad"))
    assert outcome.found == 4, "x takes all places; after it a is loaded, and d for what came after a"


@pytest.mark.parametrize(("budget", "broken"), [(60, 0), (35, 1)])
def test_what_another_line_announced_gives_way_only_to_what_would_not_fit_otherwise(budget: int, broken: int) -> None:
    one = [Changeover(at_s, model, "one") for at_s, model in ((100, "a"), (200, "x"), (240, "a"))]
    other = Changeover(250, "c", "other")
    outcome = Simulator(COST, budget, Lru(), lead_s=9_900).run([*one, other])
    assert (outcome.changeovers, outcome.broken_reservations) == (4, broken)


def test_a_model_that_is_too_large_is_said() -> None:
    with pytest.raises(AssertionError, match="does not fit"):
        Simulator(COST, 20, Lru()).run(trace("x"))


def least(costs: dict[str, Cost], budget: int, asked: Sequence[str]) -> float:
    """Try every choice of what to keep: the slow and obvious way."""

    def best(resident: frozenset[str], active: str | None, place: int) -> float:
        if place == len(asked):
            return 0.0
        wanted = asked[place]
        if wanted in resident:
            return best(resident, wanted, place + 1)
        room = budget - costs[wanted].bytes
        must = {active} if active and costs[active].bytes <= room else set()
        free = sorted(resident - must - ({active} if active else set()))
        found = []
        for choice in range(1 << len(free)):
            kept = must | {model for bit, model in enumerate(free) if choice >> bit & 1}
            if sum(costs[model].bytes for model in kept) <= room:
                found.append(best(frozenset(kept | {wanted}), wanted, place + 1))
        return costs[wanted].load_s + min(found)

    return best(frozenset(), None, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=2, max_size=5),
    st.lists(st.integers(0, 4), min_size=1, max_size=9),
    st.integers(6, 16),
)
def test_the_optimum_is_the_least_of_all_choices(sizes: list[tuple[int, int]], picks: list[int], budget: int) -> None:
    costs = {str(number): Cost(bytes_, float(load_s)) for number, (bytes_, load_s) in enumerate(sizes)}
    asked = [str(pick % len(sizes)) for pick in picks]
    changeovers = trace(asked)
    optimum = BeladyBound(costs, budget).stall_s(changeovers)
    assert optimum == pytest.approx(least(costs, budget, asked))
    for policy in (Lru(), AgentPolicy()):
        assert Simulator(costs, budget, policy).run(changeovers).stall_s >= optimum - 1e-9


def test_the_optimum_keeps_what_every_line_runs() -> None:
    mine = [*trace("a", line="one"), *trace("xbxb", line="two")]
    mine.sort(key=lambda change: change.at_s)
    assert BeladyBound(COST, 40).stall_s(mine) == 1 + 5 + 1 + 5 + 1, "a stays, and b and x do not fit beside it"
    assert BeladyBound(COST, 50).stall_s(mine) == 1 + 5 + 1


def test_a_played_trace_gives_every_figure() -> None:
    one = generate("small", "mixed", seed=3, models=6)
    played = play(Trace(one.header, one.changeovers[:120]))
    assert set(played["budgets"]) == {"0.5", "0.6", "0.7", "0.8"}
    for budget in played["budgets"].values():
        assert 0 < budget["optimum_ms"] <= budget["lru_ms"]
        assert budget["optimum_ms"] <= budget["agent_ms"]
        assert budget["announced_ms"] < budget["agent_ms"]
    figures = summary({"small": played})
    assert figures["vs_belady"]["unannounced"]["small"] >= 1
    assert figures["vs_lru_most"] == figures["vs_lru"]["unannounced"]["small"] == figures["vs_lru_most_of_mixed"]


def test_a_budget_that_cannot_hold_what_the_lines_run_is_left_out() -> None:
    header = Header("tight", "mixed", 1, {"a": "x", "b": "n"})
    played = play(Trace(header, tuple(trace("abab"))))
    share = COSTS["x"].bytes / (COSTS["x"].bytes + COSTS["n"].bytes)
    assert all(float(budget) >= share for budget in played["budgets"])
