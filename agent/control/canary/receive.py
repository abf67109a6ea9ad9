"""Comparisons as they are asked for: `canary/set`, taken or refused with a reason."""

from dataclasses import replace
from typing import Final, get_args

from agent.control.actions import Action
from agent.control.canary import steps
from agent.control.comparisons.comparison import Comparison, Stage, is_of_one_model
from agent.control.comparisons.verdict import Verdict
from agent.control.lines.changeover import answer
from agent.control.lines.command_replay import join
from agent.control.state import Command, Line, Now, State
from agent.messages.canary import CanaryMode, CanaryPromote
from agent.messages.errors import Reason
from agent.messages.references import ModelReference

_KEYS: Final = ("id", "candidate", "mode", "share", "frames", "promote", "at", "ttl_s")
_LEAST_SHARE: Final = 0.001
_LEAST_FRAMES: Final = 10
_MOST_FRAMES: Final = 100_000_000


class _RefusedError(ValueError):
    def __init__(self, detail: str, reason: Reason = "not_understood") -> None:
        super().__init__(detail)
        self.reason: Final = reason


def set_canary(state: State, line: Line, content: object, command: Command, now: Now) -> list[Action]:
    """Begin, stop or promote a comparison. Refused: nothing changes."""
    if content == "stop":
        return _stop(state, line, command, now)
    if content == "promote":
        return _promote(state, line, command, now)
    try:
        asked = _read(state, line, content)
    except _RefusedError as error:
        return answer(state, command, "rejected", error.reason, str(error))
    running = line.comparison
    if running is not None and not running.is_over and _asks(running) == _asks(asked):
        is_waiting = running.stage is not Stage.RUNNING and join(running.commands, command)
        return answer(state, command, "accepted" if is_waiting else "noop", None, f"{asked.candidate} is compared")
    return steps.begin(state, line, replace(asked, id=command.id, commands=[command]), now) + answer(
        state, command, "accepted"
    )


def _stop(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    one = line.comparison
    if one is None or one.is_over:
        # An alert of a rollback that was read is cleared by this.
        had_alert = one is not None and one.result == "rolled_back"
        return (steps.forget_rollback(state, line) if had_alert else []) + answer(state, command, "noop")
    stopped = steps.end(state, line, "stopped", Verdict("superseded", "it was stopped by message"), now)
    return stopped + answer(state, command, "done")


def _promote(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    one = line.comparison
    if one is None or one.stage is not Stage.RUNNING:
        detail = f"no comparison runs on {line.id}"
        return answer(state, command, "rejected", "not_understood", detail)
    if not one.is_of_one_model:
        detail = f"{one.candidate} is no version of {one.stable}: choose it by model/set"
        return answer(state, command, "rejected", "not_understood", detail)
    return steps.promote(state, line, [command], now)


def _read(state: State, line: Line, content: object) -> Comparison:
    if not isinstance(content, dict):
        raise _RefusedError('expected "stop", "promote" or a JSON object such as {"candidate": "cap-check:n@4"}')
    unknown = [str(key)[:64] for key in content if key not in _KEYS]
    if unknown:
        raise _RefusedError(f"no key {unknown[0]!r}; there are {', '.join(_KEYS[1:6])}")
    usual = state.plant.canary
    asked = Comparison(
        candidate=_candidate(state, line, content.get("candidate")),
        mode=_mode(content.get("mode", usual.mode)),
        share=_share(content.get("share", usual.share)),
        frames=_frames(content.get("frames", usual.frames)),
        promote=_how(content.get("promote", usual.promote)),
        product=line.selection.product,
    )
    serving = line.assignment.target.reference if line.assignment.target is not None else None
    if asked.candidate == serving:
        raise _RefusedError(f"{serving} serves {line.id} itself")
    needs_version = asked.mode == "canary" or asked.promote == "auto"
    if needs_version and serving is not None and not is_of_one_model(asked.candidate, serving):
        raise _RefusedError(f"{asked.candidate} is no version of {serving}; such models can only be shadowed")
    return asked


def _candidate(state: State, line: Line, text: object) -> str:
    reference = ModelReference.parse(text) if isinstance(text, str) else None
    if reference is None:
        raise _RefusedError("candidate: expected a model reference such as cap-check:n@4")
    found = state.plant.find(reference, line.rules.variant)
    if found is None:
        raise _RefusedError(f"the catalog has no {text!r}: see `changeover models list`", "unknown_model")
    return found.reference


def _mode(value: object) -> CanaryMode:
    modes: tuple[CanaryMode, ...] = get_args(CanaryMode)
    found = next((one for one in modes if one == value), None)
    if found is None:
        raise _RefusedError(f"mode: expected {' or '.join(modes)}")
    return found


def _how(value: object) -> CanaryPromote:
    ways: tuple[CanaryPromote, ...] = get_args(CanaryPromote)
    found = next((one for one in ways if one == value), None)
    if found is None:
        raise _RefusedError(f"promote: expected {' or '.join(ways)}")
    return found


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _LEAST_SHARE <= value <= 1:
        raise _RefusedError(f"share: expected a number from {_LEAST_SHARE} to 1")
    return float(value)


def _frames(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not _LEAST_FRAMES <= value <= _MOST_FRAMES:
        raise _RefusedError(f"frames: expected a whole number from {_LEAST_FRAMES} to {_MOST_FRAMES}")
    return value


def _asks(one: Comparison) -> tuple[object, ...]:
    return one.candidate, one.mode, one.share, one.frames, one.promote
