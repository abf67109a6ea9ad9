"""Retained messages: which of them are commands, and which only repeat a known value."""

from typing import Final

from agent.control.actions import Action, RequeryRetained
from agent.control.inputs.routes import RETAINABLE, Route
from agent.control.state import Now, State
from agent.messages.events import Received

_PROBE_INTERVAL_S: Final = 1.0
_KNOWN_TOPICS: Final = 1024
"""Most topics remembered; retained messages of further unknown lines are ignored, so that memory stays bounded."""
_LONGEST_FOREIGN_TOPIC: Final = 512
"""Longest topic in characters; retained messages of longer ones are ignored, because no line here has them."""


def probes(state: State, now: Now) -> list[Action]:
    """Ask the broker what it retains on topics that just brought a command, at most once a second (decision 0005)."""
    if not state.probe_due or now.monotonic_s < state.probe_due_s:
        return []
    state.probe_due_s = now.monotonic_s + _PROBE_INTERVAL_S
    due, state.probe_due = sorted(state.probe_due), set()
    return [RequeryRetained(filter_) for filter_ in due]


def is_command(state: State, message: Received, found: list[Route]) -> bool:
    """Return True for a command, False for a retained message that is already known."""
    is_ours = not found[0].name or any(route.name in state.lines for route in found)
    if not message.retained:
        if is_ours and found[0].kind in RETAINABLE:
            state.probed.add(message.topic)
            state.probe_due.add(found[0].filter_)
            _cleared(state, message)
        return True
    is_first = message.topic not in state.probed
    if not is_ours:
        is_first = is_first and len(state.probed) < _KNOWN_TOPICS and len(message.topic) <= _LONGEST_FOREIGN_TOPIC
        state.probed.update([message.topic] if is_first else [])
        return is_first
    state.probed.add(message.topic)
    is_news = state.retained.get(message.topic) != message.payload
    if is_news:
        state.retained[message.topic], state.unsaved = message.payload, True
    return is_first and is_news


def _cleared(state: State, message: Received) -> None:
    """Forget the retained payload when an empty message came; a probe shows it if it still exists."""
    if not message.payload and state.retained.pop(message.topic, None) is not None:
        state.unsaved = True
