"""`changeover bench cache`: time that lines wait for models over nine traces, by policy and with preloads."""

from collections.abc import Callable
from typing import Any, Final

from agent.bench.cache.belady_bound import BeladyBound
from agent.bench.cache.changeovers import Trace, generate_all
from agent.bench.cache.policies import AgentPolicy, Lru
from agent.bench.cache.simulator import Cost, Outcome, Policy, Simulator, costs_of
from agent.bench.figures import median
from agent.bench.options import Options
from agent.bench.plant.children import say

BUDGETS: Final = (0.5, 0.6, 0.7, 0.8)
"""Budgets as shares of all models' memory; those too small for the largest models of all lines are skipped."""
ROOMY: Final = 0.7
"""Budgets from this share on count for what is found resident."""
_LEAD_S: Final = 120.0
_FOUND: Final = ("announced_found_resident", "preloaded_found_resident")
_MIB: Final = 1 << 20

COSTS: Final = {
    "n": Cost(35 * _MIB, 0.156),
    "s": Cost(62 * _MIB, 0.190),
    "m": Cost(91 * _MIB, 0.250),
    "l": Cost(110 * _MIB, 0.300),
    "x": Cost(188 * _MIB, 0.452),
}
"""yolo11 on OpenVINO from prepared artifacts (two x86-64 cores): resident bytes, and seconds to load and prove."""


def run(options: Options) -> dict[str, Any]:
    """Play every trace with the agent's policy, LRU and the lower bound; unannounced, preloaded and announced."""
    traces = generate_all()[: 2 if options.quick else None]
    by_trace: dict[str, dict[str, Any]] = {}
    for trace in traces:
        say(f"cache: {trace.header.trace}")
        by_trace[trace.header.trace] = play(trace)
    return summary(by_trace) | {"by_trace": by_trace, "budgets": BUDGETS, "announced_ahead_s": _LEAD_S}


def play(trace: Trace) -> dict[str, Any]:
    """Return the stall a changeover, in ms, by budget: of LRU, the agent, with preloads, announced, and the bound."""
    costs = costs_of(trace, COSTS)
    whole = sum(one.bytes for one in costs.values())
    lines = len({one.line for one in trace.changeovers})
    least = sum(sorted((one.bytes for one in costs.values()), reverse=True)[:lines])
    budgets = {}
    for share in BUDGETS:
        if whole * share < least:
            continue
        budget_bytes = int(whole * share)

        def simulated(
            policy: Callable[[], Policy],
            lead_s: float | None = None,
            room: int = budget_bytes,
            *,
            preloads: bool = False,
        ) -> Outcome:
            return Simulator(costs, room, policy(), lead_s, preloads=preloads).run(trace.changeovers)

        agents, announced = simulated(AgentPolicy), simulated(AgentPolicy, _LEAD_S)
        preloaded = simulated(AgentPolicy, preloads=True)
        count = len(trace.changeovers)
        budgets[str(share)] = {
            "lru_ms": simulated(Lru).stall_s / count * 1000,
            "agent_ms": agents.stall_s / count * 1000,
            "preloaded_ms": preloaded.stall_s / count * 1000,
            "announced_ms": announced.stall_s / count * 1000,
            "optimum_ms": BeladyBound(costs, budget_bytes).stall_s(trace.changeovers) / count * 1000,
            "found_resident": agents.found / count,
            "preloaded_found_resident": preloaded.found / count,
            "announced_found_resident": announced.found / count,
        }
    return {"kind": trace.header.kind, "changeovers": len(trace.changeovers), "models": len(costs), "budgets": budgets}


def summary(by_trace: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the ratios of each trace over all its budgets, and those of the worst budget."""

    def ratio(of: str, over: str) -> dict[str, float]:
        return {name: _total(one, of) / _total(one, over) for name, one in by_trace.items()}

    def worst(of: str, over: str) -> dict[str, float]:
        return {
            name: max(budget[of] / budget[over] for budget in one["budgets"].values()) for name, one in by_trace.items()
        }

    roomy = [budget for one in by_trace.values() for share, budget in one["budgets"].items() if float(share) >= ROOMY]
    found, guessed = ([budget[key] for budget in roomy] for key in _FOUND)
    stalls = [budget["preloaded_ms"] / budget["lru_ms"] for budget in roomy]
    unannounced = ratio("agent_ms", "lru_ms")
    mixed = [name for name, one in by_trace.items() if one["kind"] == "mixed"]
    return {
        "vs_lru": {
            "unannounced": unannounced,
            "preloaded": ratio("preloaded_ms", "lru_ms"),
            "announced": ratio("announced_ms", "lru_ms"),
        },
        "vs_lru_worst_budget": worst("agent_ms", "lru_ms"),
        "vs_lru_most": max(unannounced.values()),
        "vs_lru_most_of_mixed": max((unannounced[name] for name in mixed), default=float("nan")),
        "vs_belady": {
            "unannounced": ratio("agent_ms", "optimum_ms"),
            "announced": ratio("announced_ms", "optimum_ms"),
        },
        "belady_vs_lru": ratio("optimum_ms", "lru_ms"),
        "announced_found_resident": min(found, default=float("nan")),
        "announced_found_resident_median": median(found),
        "preloaded_found_resident": min(guessed, default=float("nan")),
        "preloaded_found_resident_median": median(guessed),
        "preloaded_vs_lru": max(stalls, default=float("nan")),
        "preloaded_vs_lru_median": median(stalls),
    }


def _total(one: dict[str, Any], key: str) -> float:
    return float(sum(budget[key] for budget in one["budgets"].values()))
