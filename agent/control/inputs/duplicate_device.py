"""Whether another device uses this one's id: then neither can be believed, and this one says so and stands back."""

from typing import Final

import msgspec

from agent.control.actions import Action, DisconnectFor
from agent.control.lines.report import alert, clear_ready
from agent.control.state import Now, State
from agent.messages.events import Received
from agent.messages.payloads import Alert

RETRY_S: Final = 60.0
_TAKEOVERS: Final = 3
_WITHIN_S: Final = 30.0
_MAX_META_BYTES: Final = 65536
OWN_BOOTS: Final = 16
"""Boots of this device that are remembered: a broker that lost its newest state may show an older one."""


class _Meta(msgspec.Struct):
    boot: str


def topic(base: str) -> str:
    """Return the topic on which a second device of this id would be heard."""
    return f"{base}/meta"


def heard(state: State, message: Received, now: Now) -> list[Action]:
    """Look at our own `meta`: a boot that was never ours is another device's.

    What the broker retained before this boot's first words may be a device that this one replaces, and is let pass.
    """
    if message.topic != topic(state.plant.base) or not 0 < len(message.payload) <= _MAX_META_BYTES:
        return []
    try:
        boot = msgspec.json.decode(message.payload, type=_Meta).boot
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    identity = state.identity
    if boot == state.plant.boot or boot in identity.boots or (message.retained and identity.links <= 1):
        return []
    return _suspect(state, now, f"its meta came from boot {boot[:16]!r}; this one is {state.plant.boot}")


def link_up(state: State, now: Now) -> list[Action]:
    """Count connections; one that lasts without a sign of another device clears the suspicion."""
    state.identity.links += 1
    if state.identity.suspected_until_s is not None:
        state.identity.suspected_until_s = now.monotonic_s + _WITHIN_S
    return []


def taken_over(state: State, now: Now) -> list[Action]:
    """Count take-overs of our session by another client of our client id."""
    identity = state.identity
    recent = [at_s for at_s in identity.takeovers_s if now.monotonic_s - at_s < _WITHIN_S]
    identity.takeovers_s = [*recent, now.monotonic_s][-_TAKEOVERS:]
    # Once suspected, one is enough: the other device is still there.
    if len(identity.takeovers_s) < _TAKEOVERS and identity.suspected_until_s is None:
        return []
    return _suspect(state, now, f"another client of its id takes over its session, {len(identity.takeovers_s)} times")


def tick(state: State, now: Now) -> list[Action]:
    """Drop the suspicion where nothing has confirmed it."""
    until_s = state.identity.suspected_until_s
    if until_s is None or now.monotonic_s < until_s:
        return []
    state.identity.suspected_until_s = None
    return alert(state, Alert("duplicate_device", on=False))


def _suspect(state: State, now: Now, detail: str) -> list[Action]:
    identity = state.identity
    identity.takeovers_s = []
    # Until a link has come up again and stayed quiet; without one, nothing is known that would clear it.
    identity.suspected_until_s = now.monotonic_s + RETRY_S + _WITHIN_S
    actions = [action for line in state.lines.values() for action in clear_ready(line)]
    actions += alert(state, Alert("duplicate_device", on=True, detail=detail))
    return [*actions, DisconnectFor(RETRY_S)]
