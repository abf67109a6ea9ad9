"""What of control's state outlives the process: the accepted choices, and commands that still wait for an answer."""

import msgspec

from agent.control import identity, preparing, scheduling
from agent.control.state import Command, Line, State, Waiting
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Cause
from agent.messages.references import ModelReference


class LineSnapshot(msgspec.Struct, frozen=True):
    """One line's choices."""

    product: str | None = None
    product_cause: Cause | None = None
    operator: ModelReference | None = None
    operator_cause: Cause | None = None
    waiting: tuple[Command, ...] = ()
    rollback: ModelReference | None = None
    rollback_cause: Cause | None = None
    history: tuple[str, ...] = ()
    preparing: tuple[Waiting, ...] = ()


class Answered(msgspec.Struct, frozen=True):
    """A final answer, for a repetition of its command's id."""

    topic: str
    ack: Ack
    line: str | None = None


class Told(msgspec.Struct, frozen=True):
    """A final answer that was about to be said when the snapshot was taken."""

    ack: Ack
    reply: Reply | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The file `control.json` in the state directory.

    `retained` are the payloads believed retained, by topic; `schedule` and `kbps` what was set by message, if it was;
    `reloading` are commands that wait for the end of a reload; `boots` this device's own, the newest last.
    """

    lines: dict[str, LineSnapshot] = {}
    retained: dict[str, bytes] = {}
    answers: tuple[Answered, ...] = ()
    schedule: str | None = None
    kbps: float | None = None
    kbps_topic: str | None = None
    telling: tuple[Told, ...] = ()
    reloading: tuple[Command, ...] = ()
    boots: tuple[str, ...] = ()
    v: int = 1


def take(state: State) -> Snapshot:
    """Return what has to hold after a restart."""
    return Snapshot(
        lines={id_: _line(line) for id_, line in state.lines.items()},
        retained=dict(state.retained),
        answers=tuple(Answered(topic, ack, line) for (topic, line, _), ack in state.answers.items()),
        schedule=state.scheduling.text,
        kbps=state.bandwidth.kbps,
        kbps_topic=state.bandwidth.topic,
        telling=tuple(Told(ack, reply) for ack, reply in (*state.retelling, *state.telling)),
        reloading=tuple(state.reloading),
        boots=(*state.identity.boots, state.plant.boot)[-identity.OWN_BOOTS :],
    )


def restore(state: State, snapshot: Snapshot) -> None:
    """Put the choices back into a state that is new; lines that are no longer configured are left out."""
    for id_, kept in snapshot.lines.items():
        if (line := state.lines.get(id_)) is not None:
            _restore_line(line, kept)
    state.retained.update(snapshot.retained)
    for answered in snapshot.answers:
        if answered.ack.id is not None:
            state.answers[answered.topic, answered.line, answered.ack.id] = answered.ack
    scheduling.restore(state, snapshot.schedule)
    state.bandwidth.kbps, state.bandwidth.topic = snapshot.kbps, snapshot.kbps_topic
    state.retelling = [(told.ack, told.reply) for told in snapshot.telling]
    state.reloading = list(snapshot.reloading)
    state.identity.boots = snapshot.boots


def _line(line: Line) -> LineSnapshot:
    return LineSnapshot(
        product=line.product,
        product_cause=line.product_cause,
        operator=line.operator,
        operator_cause=line.operator_cause,
        waiting=tuple(line.changeover.commands if line.changeover else line.waiting),
        rollback=line.rollback,
        rollback_cause=line.rollback_cause,
        history=tuple(line.history),
        preparing=preparing.pending(line),
    )


def _restore_line(line: Line, kept: LineSnapshot) -> None:
    line.product, line.product_cause = kept.product, kept.product_cause
    line.operator, line.operator_cause = kept.operator, kept.operator_cause
    line.rollback, line.rollback_cause = kept.rollback, kept.rollback_cause
    line.waiting, line.history = list(kept.waiting), list(kept.history)
    line.to_prepare = list(kept.preparing)
    line.fault = line.standing_fault
