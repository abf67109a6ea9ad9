"""What of control's state outlives the process: the accepted choices, and commands that still wait for an answer."""

import msgspec

from agent.control.state import Command, State
from agent.messages.payloads import Ack, Cause
from agent.messages.references import ModelReference


class LineSnapshot(msgspec.Struct, frozen=True):
    """One line's choices."""

    product: str | None = None
    product_cause: Cause | None = None
    operator: ModelReference | None = None
    operator_cause: Cause | None = None
    waiting: tuple[Command, ...] = ()


class Answered(msgspec.Struct, frozen=True):
    """A final answer, for a repetition of its command's id."""

    topic: str
    ack: Ack


class Snapshot(msgspec.Struct, frozen=True):
    """The file `control.json` in the state directory. `retained` are the payloads believed retained, by topic."""

    lines: dict[str, LineSnapshot] = {}
    retained: dict[str, bytes] = {}
    answers: tuple[Answered, ...] = ()
    v: int = 1


def take(state: State) -> Snapshot:
    """Return what has to hold after a restart."""
    lines = {
        id_: LineSnapshot(
            line.product,
            line.product_cause,
            line.operator,
            line.operator_cause,
            tuple(line.changeover.commands if line.changeover else line.waiting),
        )
        for id_, line in state.lines.items()
    }
    answers = tuple(Answered(topic, ack) for (topic, _), ack in state.answers.items())
    return Snapshot(lines, dict(state.retained), answers)


def restore(state: State, snapshot: Snapshot) -> None:
    """Put the choices back into a state that is new; lines that are no longer configured are left out."""
    for id_, kept in snapshot.lines.items():
        if (line := state.lines.get(id_)) is None:
            continue
        line.product, line.product_cause = kept.product, kept.product_cause
        line.operator, line.operator_cause = kept.operator, kept.operator_cause
        line.waiting = list(kept.waiting)
        line.fault = line.standing_fault
    state.retained.update(snapshot.retained)
    state.answers.update({(kept.topic, kept.ack.id): kept.ack for kept in snapshot.answers if kept.ack.id})
