"""What of control's state outlives the process: the accepted choices, and commands that still wait for an answer."""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from agent.control.inputs import duplicate_device, schedule
from agent.control.lines import preload
from agent.control.lines.changeover import KEPT_ANSWERS
from agent.control.state import Command, Line, State, Waiting
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Cause
from agent.messages.references import ModelReference


class LineSnapshot(msgspec.Struct, frozen=True):
    """One line's choices; `lost`: newer ones could not be written before a restart."""

    product: str | None = None
    product_cause: Cause | None = None
    operator: ModelReference | None = None
    operator_cause: Cause | None = None
    waiting: tuple[Command, ...] = ()
    rollback: ModelReference | None = None
    rollback_cause: Cause | None = None
    history: tuple[str, ...] = ()
    preparing: tuple[Waiting, ...] = ()
    lost: bool = False

    @property
    def choices(self) -> tuple[object, ...]:
        """What decides which product the line is for, and which model serves it."""
        return (self.product, self.operator, self.rollback)


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
    """What is kept in the state folder: whole in `control.json`, and what changed since then in a log beside it.

    `retained` are the payloads believed retained, by topic; `schedule` and `kbps` what was set by message, if it was;
    `reloading` are commands that wait for the end of a reload; `boots` this device's own, the newest last.
    Logs with numbers below `first_log` are in it.
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
    first_log: int = 0
    v: int = 1


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """From one snapshot to the next: only what differs. A retained payload of None: none is believed any more."""

    lines: dict[str, LineSnapshot] = {}
    retained: dict[str, bytes | None] = {}
    answers: tuple[Answered, ...] = ()
    schedule: str | msgspec.UnsetType | None = msgspec.UNSET
    kbps: float | msgspec.UnsetType | None = msgspec.UNSET
    kbps_topic: str | msgspec.UnsetType | None = msgspec.UNSET
    telling: tuple[Told, ...] | msgspec.UnsetType = msgspec.UNSET
    reloading: tuple[Command, ...] | msgspec.UnsetType = msgspec.UNSET
    boots: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


_SINGLE: Final = ("schedule", "kbps", "kbps_topic", "telling", "reloading", "boots")


def change(before: Snapshot, after: Snapshot) -> Change:
    """Return what leads from one snapshot to the next; applied twice it leads to the same."""
    known = set(before.answers)
    gone = dict.fromkeys(before.retained.keys() - after.retained.keys())
    single: dict[str, Any] = {
        name: getattr(after, name) for name in _SINGLE if getattr(after, name) != getattr(before, name)
    }
    return Change(
        lines={id_: line for id_, line in after.lines.items() if before.lines.get(id_) != line},
        retained=gone | {topic: one for topic, one in after.retained.items() if before.retained.get(topic) != one},
        answers=tuple(one for one in after.answers if one not in known),
        **single,
    )


def changed(before: Snapshot, *changes: Change) -> Snapshot:
    """Return the snapshot that changes lead to, in their order."""
    lines, retained = dict(before.lines), dict(before.retained)
    answers = {(one.topic, one.line, one.ack.id): one for one in before.answers}
    single: dict[str, Any] = {}
    for one in changes:
        lines |= one.lines
        for topic, payload in one.retained.items():
            if payload is None:
                retained.pop(topic, None)
            else:
                retained[topic] = payload
        answers |= {(each.topic, each.line, each.ack.id): each for each in one.answers}
        single |= {name: value for name in _SINGLE if (value := getattr(one, name)) is not msgspec.UNSET}
    kept = tuple(answers.values())[-KEPT_ANSWERS:]
    return msgspec.structs.replace(before, lines=lines, retained=retained, answers=kept, **single)


def without_choices(kept: Snapshot, lines: Collection[str]) -> Snapshot:
    """Return a snapshot in which some lines wait for their products, because newer choices could not be written.

    What the broker is believed to retain stays: a retained product that is known was there before the one that is lost.
    """
    lost = {id_: LineSnapshot(history=line.history, lost=True) for id_, line in kept.lines.items() if id_ in lines}
    return msgspec.structs.replace(kept, lines=kept.lines | lost)


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
        boots=(*state.identity.boots, state.plant.boot)[-duplicate_device.OWN_BOOTS :],
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
    schedule.restore(state, snapshot.schedule)
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
        preparing=preload.pending(line),
        lost=line.choice_lost,
    )


def _restore_line(line: Line, kept: LineSnapshot) -> None:
    line.product, line.product_cause = kept.product, kept.product_cause
    line.operator, line.operator_cause = kept.operator, kept.operator_cause
    line.rollback, line.rollback_cause = kept.rollback, kept.rollback_cause
    line.waiting, line.history = list(kept.waiting), list(kept.history)
    line.to_prepare = list(kept.preparing)
    line.choice_lost = kept.lost
    line.fault = line.standing_fault
