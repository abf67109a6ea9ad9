"""Watchdog for frames without an answer: clears `ready`, and restarts the worker where that may help."""

from collections.abc import Mapping
from typing import Final

from agent.control.actions import Action, RestartWorker
from agent.control.events import Seen
from agent.control.lines.report import alert, clear_ready
from agent.control.state import Line, Now, State
from agent.control.workers import Answering
from agent.messages.payloads import Alert

ALLOWED_S: Final = 2.0
"""Time a frame may wait for its answer, so that `ready` is 0 within the promised 3 s."""
_TURNS_ALLOWED: Final = 1.5
_SLOW_S: Final = 1.0
"""A model whose inferences take longer has a grace beyond the 3 s."""
_LONGEST_ALLOWED_S: Final = 2.7
_LONGEST_ALLOWED_SLOW_S: Final = 10.0
FEWEST: Final = 2
"""Missed frames in a row that count as a fault of a triggered camera, whose next frame may come an hour later."""
_QUIET_S: Final = 1.0
"""A fault is over where no frame comes for this long after a swap, because there is none to answer."""
FAILURES: Final = 60
"""Frames in a row without an answer that restart the worker."""
_PATIENCE_S: Final = 10.0
_MOST_DOUBLINGS: Final = 6
_WELL_S: Final = 60.0
_AWAY_S: Final = 1.0
"""After such a pause of control itself, known answers are older than known frames."""


def look(state: State, streams: Mapping[str, Seen], now: Now) -> list[Action]:
    """Find streams whose frames are no longer answered, and those that have recovered."""
    was_away, state.looked_s = now.monotonic_s - state.looked_s > _AWAY_S, now.monotonic_s
    actions: list[Action] = []
    for stream, seen in streams.items():
        line = state.lines[state.plant.streams[stream]]
        one = state.answering.setdefault(stream, Answering())
        if was_away:
            one.owed_since_s = None
        actions += _look(state, line, stream, seen, now)
    return actions


def worker_lost(state: State, line: Line) -> None:
    """Forget a line's frames in flight; unanswered streams stay so until a frame is answered."""
    for stream in state.streams_of(line.id):
        if (one := state.answering.get(stream)) is not None:
            one.served_by, one.owed_since_s = None, None


def _look(state: State, line: Line, stream: str, seen: Seen, now: Now) -> list[Action]:
    one = state.answering[stream]
    if not _is_owed(state, line, stream):
        one.served_by, one.owed_since_s = None, None
        return []
    if one.served_by != line.serving.model:
        one.served_by, one.served_since_s, one.owed_since_s = line.serving.model, now.monotonic_s, None
    one.owed_since_s = _owed_since_s(one, seen, now)
    if one.unanswered_since_s is not None:
        if _is_over(one, seen, now):
            one.unanswered_since_s, one.well_since_s = None, now.monotonic_s
            return alert(state, Alert("frames_unanswered", on=False, stream=stream))
        return _restart(state, line, stream, seen, now)
    if now.monotonic_s - one.well_since_s > _WELL_S:
        one.restarts = 0
    is_late = one.owed_since_s is not None and now.monotonic_s - one.owed_since_s >= _allowed_s(seen)
    if one.owed_since_s is None or not is_late or state.group_of(line).is_hung:
        return []
    one.unanswered_since_s = now.monotonic_s
    # `ready` first, because a PLC must not act on a line without answers.
    return clear_ready(line) + alert(
        state, Alert("frames_unanswered", on=True, stream=stream, detail=_detail(one.owed_since_s, seen, now))
    )


def _is_owed(state: State, line: Line, stream: str) -> bool:
    """Return True where the stream's frames must be answered: it is online, and a model serves it."""
    is_served = line.serving.model is not None and not line.serving.is_taken_off
    return state.group_of(line).is_up and is_served and state.streams[stream] == "online"


def _owed_since_s(one: Answering, seen: Seen, now: Now) -> float | None:
    """Return the time since which a frame has waited for its answer (monotonic); None where none waits."""
    is_failing = seen.steady or seen.missed >= FEWEST or (one.restarts > 0 and seen.missed > 0)
    settled_s = seen.answered_s if is_failing else max(seen.answered_s, seen.missed_s)
    came_s = seen.offered_s if seen.offered_s >= one.served_since_s or not seen.waiting else one.served_since_s
    if came_s < one.served_since_s or (came_s <= settled_s and not seen.waiting):
        return None
    if one.owed_since_s is not None and one.owed_since_s >= settled_s:
        return one.owed_since_s
    return min(now.monotonic_s, max(came_s, settled_s, one.served_since_s))


def _allowed_s(seen: Seen) -> float:
    """Return how long a frame may wait for its answer."""
    longest_s = _LONGEST_ALLOWED_SLOW_S if seen.infer_s > _SLOW_S else _LONGEST_ALLOWED_S
    return min(longest_s, max(ALLOWED_S, _TURNS_ALLOWED * seen.turn_s))


def _is_over(one: Answering, seen: Seen, now: Now) -> bool:
    """Return True where the fault is over: frames are answered, or a new model had none to answer."""
    since_s = one.unanswered_since_s or 0.0
    if seen.answered_s > since_s:
        return True
    is_new = one.served_since_s > since_s
    is_quiet = seen.offered_s < one.served_since_s and not seen.waiting
    return is_new and is_quiet and now.monotonic_s - one.served_since_s > _QUIET_S


def _restart(state: State, line: Line, stream: str, seen: Seen, now: Now) -> list[Action]:
    """Restart the worker where frames stay unanswered; each restart without effect doubles the wait."""
    one = state.answering[stream]
    since_s = one.owed_since_s if one.owed_since_s is not None else one.unanswered_since_s
    if line.changeover is not None or since_s is None:
        return []
    factor = 1 << min(one.restarts, _MOST_DOUBLINGS)
    if seen.missed < FAILURES * factor and now.monotonic_s - since_s < _PATIENCE_S * factor:
        return []
    one.restarts += 1
    return [RestartWorker(f"stream {stream}: {_detail(since_s, seen, now)}", line.rules.group)]


def _detail(since_s: float, seen: Seen, now: Now) -> str:
    """Describe the symptom: frames that fail, are not answered, or are not taken."""
    what = "are taken and not answered" if seen.taken_s >= since_s else "are not taken"
    if seen.missed:
        what = f"fail, {seen.missed} in a row"
    return f"frames come and {what}, for {now.monotonic_s - since_s:.1f} s"
