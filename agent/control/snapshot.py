"""Snapshot of control's state on disk: accepted choices, and commands that still wait for an ack."""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from agent.control.canary import following
from agent.control.canary import kept as kept_comparisons
from agent.control.canary import steps as comparisons
from agent.control.inputs import duplicate_device, schedule
from agent.control.learned_order import LearnedOrder
from agent.control.lines import preload
from agent.control.lines.changeover import KEPT_ANSWERS
from agent.control.orders import kept as kept_orders
from agent.control.state import (
    Assignment,
    Bandwidth,
    Command,
    Identity,
    Line,
    Override,
    Preloads,
    Selection,
    State,
    Waiting,
)
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Cause
from agent.messages.references import ModelReference

_KEYS: Final = {"unsent_acks": "telling"}
"""Names of fields on disk that differ from those here, kept because older versions wrote them."""


_CHOICES: Final = frozenset({"product", "operator", "rollback", "lost"})
"""Fields of a line that decide what it serves."""


class LineSnapshot(msgspec.Struct, frozen=True):
    """Choices of one line."""

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
    """Newer choices could not be written before a restart."""
    comparison: kept_comparisons.KeptComparison | None = None
    followed: str | None = None
    """Full reference that the line's alias meant when it was last acted on."""
    followed_told: str | None = None
    instead: dict[str, str] = {}

    @classmethod
    def of_parts(cls, parts: dict[str, Any], lacking: list[str]) -> "LineSnapshot":
        """Return what was kept without the fields `lacking`; without all choices where one of them is missing."""
        if _CHOICES.isdisjoint(lacking):
            return cls(**parts)
        return cls(history=parts.get("history", ()), lost=True, instead=parts.get("instead", {}))

    @property
    def choices(self) -> tuple[object, ...]:
        """Choices that decide the line's product and model."""
        return (self.product, self.operator, self.rollback)


class Answered(msgspec.Struct, frozen=True):
    """A final ack, kept for a repeated command id."""

    topic: str
    ack: Ack
    line: str | None = None


class UnsentAck(msgspec.Struct, frozen=True):
    """A final ack that was not sent yet when the snapshot was taken."""

    ack: Ack
    reply: Reply | None = None


class Snapshot(msgspec.Struct, frozen=True, rename=_KEYS):
    """Persisted state: a whole snapshot in `control.json`, and later changes in a log beside it."""

    lines: dict[str, LineSnapshot] = {}
    retained: dict[str, bytes] = {}
    """Payloads that the broker is believed to retain, by topic."""
    answers: tuple[Answered, ...] = ()
    schedule: str | None = None
    """The schedule as set by message; None: the configured one."""
    kbps: float | None = None
    """The bandwidth in kbit/s as set by message; None: it is measured."""
    kbps_topic: str | None = None
    unsent_acks: tuple[UnsentAck, ...] = ()
    """Final acks that were not sent yet."""
    reloading: tuple[Command, ...] = ()
    """Commands that wait for a reload to end."""
    boots: tuple[str, ...] = ()
    """Boot ids of this device, the newest last."""
    learned_orders: dict[str, LearnedOrder] = {}
    """The learned order of each line's products."""
    orders: kept_orders.KeptOrders = kept_orders.KeptOrders()
    """Orders for models."""
    first_log: int = 0
    """Logs with lower numbers are part of this snapshot."""
    v: int = 1


class Change(msgspec.Struct, frozen=True, omit_defaults=True, rename=_KEYS):
    """Differences between two snapshots; UNSET leaves a value, and a retained payload of None removes its topic."""

    lines: dict[str, LineSnapshot] = {}
    retained: dict[str, bytes | None] = {}
    learned_orders: dict[str, LearnedOrder] = {}
    answers: tuple[Answered, ...] = ()
    schedule: str | msgspec.UnsetType | None = msgspec.UNSET
    kbps: float | msgspec.UnsetType | None = msgspec.UNSET
    kbps_topic: str | msgspec.UnsetType | None = msgspec.UNSET
    unsent_acks: tuple[UnsentAck, ...] | msgspec.UnsetType = msgspec.UNSET
    reloading: tuple[Command, ...] | msgspec.UnsetType = msgspec.UNSET
    boots: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    orders: kept_orders.KeptOrders | msgspec.UnsetType = msgspec.UNSET


_SINGLE: Final = ("schedule", "kbps", "kbps_topic", "unsent_acks", "reloading", "boots", "orders")


def change(before: Snapshot, after: Snapshot) -> Change:
    """Return the difference between two snapshots; applying it twice changes nothing more."""
    known = set(before.answers)
    gone = dict.fromkeys(before.retained.keys() - after.retained.keys())
    single: dict[str, Any] = {
        name: getattr(after, name) for name in _SINGLE if getattr(after, name) != getattr(before, name)
    }
    return Change(
        lines={id_: line for id_, line in after.lines.items() if before.lines.get(id_) != line},
        learned_orders={id_: one for id_, one in after.learned_orders.items() if before.learned_orders.get(id_) != one},
        retained=gone | {topic: one for topic, one in after.retained.items() if before.retained.get(topic) != one},
        answers=tuple(one for one in after.answers if one not in known),
        **single,
    )


def changed(before: Snapshot, *changes: Change) -> Snapshot:
    """Apply changes to a snapshot, in their order."""
    lines, retained, learned = dict(before.lines), dict(before.retained), dict(before.learned_orders)
    answers = {(one.topic, one.line, one.ack.id): one for one in before.answers}
    single: dict[str, Any] = {}
    for one in changes:
        lines |= one.lines
        learned |= one.learned_orders
        for topic, payload in one.retained.items():
            if payload is None:
                retained.pop(topic, None)
            else:
                retained[topic] = payload
        answers |= {(each.topic, each.line, each.ack.id): each for each in one.answers}
        single |= {name: value for name in _SINGLE if (value := getattr(one, name)) is not msgspec.UNSET}
    kept = tuple(answers.values())[-KEPT_ANSWERS:]
    return msgspec.structs.replace(
        before, lines=lines, retained=retained, learned_orders=learned, answers=kept, **single
    )


def without_choices(kept: Snapshot, lines: Collection[str]) -> Snapshot:
    """Drop the choices of some lines, because newer ones could not be written.

    Retained payloads stay, because a retained product that is known is older than the lost one.
    """
    lost = {
        id_: LineSnapshot(history=line.history, lost=True, instead=line.instead)
        for id_, line in kept.lines.items()
        if id_ in lines
    }
    return msgspec.structs.replace(kept, lines=kept.lines | lost)


def take(state: State) -> Snapshot:
    """Return the snapshot of a state."""
    return Snapshot(
        lines={id_: _line(line) for id_, line in state.lines.items()},
        retained=dict(state.retained),
        answers=tuple(Answered(topic, ack, line) for (topic, line, _), ack in state.answers.items()),
        schedule=state.scheduling.text,
        kbps=state.bandwidth.kbps,
        kbps_topic=state.bandwidth.topic,
        unsent_acks=tuple(UnsentAck(ack, reply) for ack, reply in (*state.acks_to_resend, *state.unsent_acks)),
        reloading=tuple(state.reloading),
        learned_orders={id_: line.selection.order for id_, line in state.lines.items()},
        orders=kept_orders.take(state.orders),
        boots=(*state.identity.boots, state.plant.boot)[-duplicate_device.OWN_BOOTS :],
    )


def restore(state: State, snapshot: Snapshot) -> None:
    """Restore choices into a new state; lines that are no longer configured are skipped."""
    for id_, kept in snapshot.lines.items():
        if (line := state.lines.get(id_)) is not None:
            _restore_line(line, kept, snapshot.learned_orders.get(id_, LearnedOrder()))
    state.retained.update(snapshot.retained)
    for answered in snapshot.answers:
        if answered.ack.id is not None:
            state.answers[answered.topic, answered.line, answered.ack.id] = answered.ack
    schedule.restore(state, snapshot.schedule)
    state.bandwidth = Bandwidth(snapshot.kbps, topic=snapshot.kbps_topic)
    state.acks_to_resend = [(one.ack, one.reply) for one in snapshot.unsent_acks]
    state.reloading = list(snapshot.reloading)
    state.identity = Identity(boots=snapshot.boots)
    kept_orders.restore(state.orders, snapshot.orders, state.plant.supply.versions)


def _line(line: Line) -> LineSnapshot:
    one = line.selection
    return LineSnapshot(
        product=one.product,
        product_cause=one.product_cause,
        operator=one.operator.reference if one.operator else None,
        operator_cause=one.operator.cause if one.operator else None,
        waiting=tuple(line.changeover.commands if line.changeover else line.assignment.waiting),
        rollback=one.rollback.reference if one.rollback else None,
        rollback_cause=one.rollback.cause if one.rollback else None,
        history=one.history,
        preparing=preload.pending(line),
        lost=one.is_lost,
        comparison=kept_comparisons.take(line.comparison),
        followed=line.followed.begun,
        followed_told=line.followed.told,
        instead=dict(one.instead),
    )


def _restore_line(line: Line, kept: LineSnapshot, order: LearnedOrder) -> None:
    operator = Override(kept.operator, kept.operator_cause or Cause("operator")) if kept.operator else None
    # A topic, because without a cause only an operator's rollback was ever written.
    rollback = Override(kept.rollback, kept.rollback_cause or Cause("rollback", "")) if kept.rollback else None
    line.selection = Selection(
        kept.product,
        kept.product_cause,
        operator,
        rollback,
        kept.history,
        order=order,
        instead=dict(kept.instead),
        is_lost=kept.lost,
    )
    comparisons.restore(line, kept_comparisons.restored(kept.comparison))
    following.restore(line, kept.followed, kept.followed_told)
    line.assignment = Assignment(waiting=list(kept.waiting))
    line.preloads = Preloads(to_prepare=list(kept.preparing))
