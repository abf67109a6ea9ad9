"""Bandwidth of the broker link, and the limits that its rules set on lines."""

import math
from typing import Final

from agent.control.actions import Action, SetPublish
from agent.control.events import AckRate, CapChanged
from agent.control.lines.changeover import answer
from agent.control.state import Cap, Command, Line, State
from agent.settings import PUBLISH_LEAST_FIRST, Publish

AUTO: Final = "auto"
_HYSTERESIS: Final = 1.2


def set_bandwidth(state: State, text: str, command: Command) -> list[Action]:
    """Set the bandwidth in kbit/s, or return to the agent's own measurement."""
    kbps = _kbps(text)
    if kbps is None and text != AUTO:
        return answer(state, command, "rejected", "not_understood", 'expected kbit/s such as 500, or "auto"')
    bandwidth = state.bandwidth
    if kbps == bandwidth.kbps:
        return answer(state, command, "noop")
    bandwidth.kbps, bandwidth.topic = kbps, command.topic if kbps is not None else None
    return [*tick(state), *answer(state, command, "done")]


def measured(state: State, event: AckRate) -> list[Action]:
    """Record the measured bandwidth; None means unknown, which sets no cap."""
    state.bandwidth.measured_kbps = event.kbps
    return []


def stressed(state: State, event: CapChanged) -> list[Action]:
    """Record a cap by temperature or memory, which the next tick applies."""
    state.stress.pop(event.rule, None)
    if event.max_variant is not None:
        state.stress[event.rule] = Cap(event.rule, event.max_variant, value=event.value)
    return []


def reloaded(line: Line) -> None:
    """Forget which bandwidth rules applied, because their indexes are those of the old configuration."""
    line.limits.bandwidth_on = frozenset()


def tick(state: State) -> list[Action]:
    """Apply each line's rules to the present bandwidth.

    Caps wait for the dwell time, because they change the model; `publish` does not.
    """
    bandwidth = state.bandwidth
    kbps = bandwidth.kbps if bandwidth.kbps is not None else bandwidth.measured_kbps
    actions: list[Action] = []
    for line in state.lines.values():
        line.limits.bandwidth_on = frozenset(
            index for index, rule in enumerate(line.rules.bandwidth) if _holds(line, index, rule.below_kbps, kbps)
        )
        on = [line.rules.bandwidth[index] for index in sorted(line.limits.bandwidth_on)]
        value = f"{kbps:g}" if kbps is not None else None
        caps = [Cap("bandwidth", one.max_variant, bandwidth.topic, value) for one in on if one.max_variant is not None]
        line.limits.caps = (*_kept(line, caps), *state.stress.values())
        actions += _say(state, line, {one.publish for one in on if one.publish is not None})
    return actions


def _holds(line: Line, index: int, below_kbps: float, kbps: float | None) -> bool:
    limit_kbps = below_kbps * (_HYSTERESIS if index in line.limits.bandwidth_on else 1.0)
    return kbps is not None and kbps < limit_kbps


def _kept(line: Line, caps: list[Cap]) -> list[Cap]:
    """Return the former caps where only their measured values changed, because that is no new cause."""
    before = [one for one in line.limits.caps if one.rule == "bandwidth"]
    is_same = [(one.max_variant, one.topic) for one in before] == [(one.max_variant, one.topic) for one in caps]
    return before if is_same else caps


def _say(state: State, line: Line, wanted: set[Publish]) -> list[Action]:
    publish = next((one for one in PUBLISH_LEAST_FIRST if one in wanted), None)
    if publish == line.limits.publish:
        return []
    line.limits.publish = publish
    return [SetPublish(stream, publish) for stream in state.streams_of(line.id)]


def _kbps(text: str) -> float | None:
    try:
        kbps = float(text)
    except ValueError:
        return None
    return kbps if math.isfinite(kbps) and kbps >= 0 else None
