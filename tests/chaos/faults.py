"""Faults of a run with their times, drawn from a seed, so that a run can be repeated."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal[
    "delay",
    "cut",
    "refuse",
    "black hole",
    "half-open",
    "slow",
    "broker killed",
    "broker frozen",
    "agent killed",
    "disk full",
    "clock set",
    "refusals",
]
_LONGEST_S: Final[dict[Kind, float]] = {
    "delay": 10,
    "cut": 0.5,
    "refuse": 12,
    "black hole": 15,
    "half-open": 8,
    "slow": 15,
    "broker killed": 8,
    "broker frozen": 12,
    "agent killed": 0.5,
    "disk full": 10,
    "clock set": 2,
    "refusals": 15,
}
_SET_S: Final = 86400.0

_DEADLY: Final[tuple[Kind, ...]] = ("refuse", "black hole", "broker killed", "broker frozen")
"""While these last, the agent may be killed too: then all that it kept is on its disk or gone."""


@dataclass(frozen=True)
class Fault:
    """`after_s` of peace, then `kind` for `lasts_s`; `kills` the agent in the middle of it.

    `share`: how many of its messages are refused. `ahead_s`: what the agent's wall clock is set to, beside the right
    time; it stays so.
    """

    after_s: float
    kind: Kind
    lasts_s: float
    kills: bool = False
    delay_s: float = 0.0
    ahead_s: float = 0.0
    share: float = 0.0


def drawn(seed: int, seconds: float) -> Iterator[Fault]:
    """Yield faults that take `seconds` in all, each kind before any comes twice."""
    chance = random.Random(seed)
    kinds: list[Kind] = []
    passed_s = 0.0
    while passed_s < seconds:
        if not kinds:
            kinds = list(_LONGEST_S)
            chance.shuffle(kinds)
        kind = kinds.pop()
        # what a full disk kept in memory must come to the disk before anybody is killed
        after_s = chance.uniform(2, 5) + (8 if kind == "disk full" else 0)
        fault = Fault(
            after_s=after_s if passed_s else after_s + 2,
            kind=kind,
            lasts_s=chance.uniform(0.3, 1) * _LONGEST_S[kind],
            kills=kind in _DEADLY and chance.random() < 0.3,
            delay_s=chance.uniform(0.02, 0.4),
            ahead_s=chance.uniform(-_SET_S, _SET_S),
            share=chance.choice([0.1, 0.5, 1.0]),
        )
        passed_s += fault.after_s + fault.lasts_s + (8 if kind == "disk full" else 0)
        yield fault
