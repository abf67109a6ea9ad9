"""Detection of another device with the same id; this one then clears `ready` and disconnects."""

from typing import Final

import msgspec

from agent.control.actions import Action, DisconnectFor
from agent.control.lines.report import alert, clear_all
from agent.control.state import Now, State
from agent.messages.events import Received
from agent.messages.payloads import Alert

RETRY_S: Final = 60.0
_TAKEOVERS: Final = 3
_WITHIN_S: Final = 30.0
_MAX_META_BYTES: Final = 65536
OWN_BOOTS: Final = 16
"""Number of own boot ids remembered, because a broker that lost its newest state may show an older one."""


class _Meta(msgspec.Struct):
    boot: str


def heard(state: State, message: Received, now: Now) -> list[Action]:
    """Suspect a duplicate where our own `meta` names a boot id that this device never had.

    A payload retained before this run's first connection is ignored, because this device may replace another one.
    """
    if message.topic != f"{state.plant.base}/meta" or not 0 < len(message.payload) <= _MAX_META_BYTES:
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
    """Count the connection; a suspicion ends after 30 s on it without another sign of a duplicate."""
    state.identity.links += 1
    if state.identity.suspected_until_s is not None:
        state.identity.suspected_until_s = now.monotonic_s + _WITHIN_S
    return []


def taken_over(state: State, now: Now) -> list[Action]:
    """Suspect a duplicate at the third takeover of our session within 30 s, or at one while already suspected."""
    identity = state.identity
    recent = [at_s for at_s in identity.takeovers_s if now.monotonic_s - at_s < _WITHIN_S]
    identity.takeovers_s = [*recent, now.monotonic_s][-_TAKEOVERS:]
    # While suspected, one takeover is enough, because the other device is still there.
    if len(identity.takeovers_s) < _TAKEOVERS and identity.suspected_until_s is None:
        return []
    return _suspect(state, now, f"another client of its id takes over its session, {len(identity.takeovers_s)} times")


def tick(state: State, now: Now) -> list[Action]:
    """Clear the suspicion once its time is over."""
    until_s = state.identity.suspected_until_s
    if until_s is None or now.monotonic_s < until_s:
        return []
    state.identity.suspected_until_s = None
    return alert(state, Alert("duplicate_device", on=False))


def _suspect(state: State, now: Now, detail: str) -> list[Action]:
    identity = state.identity
    identity.takeovers_s = []
    # Lasts until a new link has stayed quiet, because only that can clear the suspicion.
    identity.suspected_until_s = now.monotonic_s + RETRY_S + _WITHIN_S
    actions = clear_all(state.lines.values()) + alert(state, Alert("duplicate_device", on=True, detail=detail))
    return [*actions, DisconnectFor(RETRY_S)]
