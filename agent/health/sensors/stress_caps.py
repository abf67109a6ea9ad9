"""Caps on model variants under heat or memory pressure, with hysteresis."""

from dataclasses import dataclass
from typing import Final, Literal

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading

Rule = Literal["temperature", "memory"]
_State = Literal["good", "between", "bad", "worst"]

_LEVELS: Final = (("l", 4.0), ("m", 3.0), ("s", 2.0), ("n", 1.0))
"""Variants that a cap can allow at most, with their size rank, the largest first."""
STEP_S: Final = 20.0
"""Shortest time between two steps down, because a smaller variant takes this long to lower a temperature."""
CALM_S: Final = 60.0
"""Time for which readings must be good before a larger variant is allowed."""

# A zone's margin is how far it is below its limit.
_BAD_MARGIN_C: Final = 5.0
_GOOD_MARGIN_C: Final = 12.0
_BAD_STALLED, _GOOD_STALLED = 0.20, 0.05
_WORST_HALTED: Final = 0.20
_WORST_FREE, _BAD_FREE, _GOOD_FREE = 0.02, 0.05, 0.10


@dataclass(frozen=True)
class Cap:
    """New value of a cap: variants larger than `max_variant` must not serve; None lifts the cap."""

    rule: Rule
    max_variant: str | None
    value: str
    """Text of the measured value that caused the change."""


class Stress:
    """Caps on variants, computed from readings with hysteresis; for one thread.

    Bad readings lower a cap to one level below the largest serving variant at once, and by another level after each
    STEP_S. The worst ones allow only the smallest variant at once. CALM_S of good ones raise it by one level. Without a
    reading nothing changes.
    """

    def __init__(self, hot_c: float | None = None) -> None:
        """Store the temperature in °C from which any zone caps; None: 5 °C below each zone's own limit."""
        self._hot_c: Final = hot_c
        self._cap_levels: Final[dict[Rule, _CapLevels]] = {"temperature": _CapLevels(), "memory": _CapLevels()}

    def look(self, now_s: float, reading: Reading, memory: HostReading | None, largest_rank: float | None) -> list[Cap]:
        """Return the caps that changed.

        `largest_rank` is the size rank of the largest serving variant; None where nothing serves. `now_s` is monotonic.
        """
        found: list[tuple[Rule, tuple[_State, str] | None]] = [
            ("temperature", _temperature_state(reading, self._hot_c)),
            ("memory", _memory_state(memory) if memory is not None else None),
        ]
        return [
            Cap(rule, self._cap_levels[rule].max_variant, state[1])
            for rule, state in found
            if state is not None and self._cap_levels[rule].look(now_s, state[0], largest_rank)
        ]

    def caps(self) -> dict[Rule, str]:
        """Return the caps in force, by rule."""
        variants = {rule: levels.max_variant for rule, levels in self._cap_levels.items()}
        return {rule: variant for rule, variant in variants.items() if variant is not None}


class _CapLevels:
    """Present level of one rule's cap: an index into _LEVELS, None for no cap."""

    def __init__(self) -> None:
        self._level: int | None = None
        self._stepped_s = 0.0
        self._good_since_s: float | None = None

    @property
    def max_variant(self) -> str | None:
        return _LEVELS[self._level][0] if self._level is not None else None

    def look(self, now_s: float, state: _State, largest_rank: float | None) -> bool:
        """Apply a state; return True where the cap changed."""
        before = self._level
        if state != "good":
            self._good_since_s = None
        if state == "worst":
            self._set_level(len(_LEVELS) - 1, now_s)
        elif state == "bad" and (self._level is None or now_s - self._stepped_s >= STEP_S):
            self._set_level(self._below(largest_rank), now_s)
        elif state == "good" and self._level is not None:
            self._calm(now_s)
        return self._level != before

    def _calm(self, now_s: float) -> None:
        assert self._level is not None
        if self._good_since_s is None:
            self._good_since_s = now_s
        elif now_s - self._good_since_s >= CALM_S:
            self._good_since_s = now_s
            self._set_level(self._level - 1 if self._level else None, now_s)

    def _below(self, largest_rank: float | None) -> int:
        """Return the first level below both the present cap and the largest serving variant; else the last one."""
        present = _LEVELS[self._level][1] if self._level is not None else float("inf")
        above = min(present, largest_rank if largest_rank is not None else float("inf"))
        return next((index for index, (_, rank) in enumerate(_LEVELS) if rank < above), len(_LEVELS) - 1)

    def _set_level(self, level: int | None, now_s: float) -> None:
        if level != self._level:
            self._level, self._stepped_s = level, now_s


def _temperature_state(reading: Reading, hot_c: float | None) -> tuple[_State, str] | None:
    fixed_c = hot_c + _BAD_MARGIN_C if hot_c is not None else None
    limits = {name: fixed_c if fixed_c is not None else zone.limit_c for name, zone in reading.zones.items()}
    margins = {name: limit - reading.zones[name].celsius for name, limit in limits.items() if limit is not None}
    if not margins:
        return None
    name = min(margins, key=lambda one: margins[one])
    value = f"{name} {reading.zones[name].celsius:.1f} C, limit {limits[name]:g} C"
    return _state_of(margins[name], 0.0, _BAD_MARGIN_C, _GOOD_MARGIN_C), value


def _memory_state(memory: HostReading) -> tuple[_State, str]:
    free = memory.free_bytes / memory.total_bytes
    stalled, halted = memory.stalled or 0.0, memory.halted or 0.0
    state = _state_of(free, _WORST_FREE, _BAD_FREE, _GOOD_FREE)
    if halted >= _WORST_HALTED:
        state = "worst"
    elif stalled >= _BAD_STALLED and state != "worst":
        state = "bad"
    elif stalled > _GOOD_STALLED and state == "good":
        state = "between"
    return state, f"{free:.0%} free, stalled {stalled:.0%}"


def _state_of(margin: float, worst: float, bad: float, good: float) -> _State:
    if margin <= worst:
        return "worst"
    if margin <= bad:
        return "bad"
    return "good" if margin >= good else "between"
