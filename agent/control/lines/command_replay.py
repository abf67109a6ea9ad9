"""Replay of acks for repeated command ids."""

from typing import Final

from agent.control.actions import Action, Answer
from agent.control.state import Command, Line, State
from agent.messages.payloads import Ack

WAITING_COMMANDS: Final = 64
"""Most repetitions of one command that wait for its final ack; further ones are answered at once."""


def again(state: State, command: Command) -> list[Action]:
    """Return the ack for a repeated command id; nothing where the command is new.

    A final ack is repeated byte for byte. Without one yet, the repeated command is accepted and gets it later.
    """
    if command.id is None:
        return []
    first = state.answers.get((command.topic, command.line, command.id))
    if first is not None:
        return [Answer(first, command.reply)]
    waiting = _waiting(state, command)
    if waiting is None:
        return []
    join(waiting, command)
    return [Answer(Ack(command.id, command.topic, "accepted"), command.reply)]


def join(waiting: list[Command], command: Command) -> bool:
    """Add a command to those that wait for the same final ack; False where the list is full."""
    is_room = len(waiting) < WAITING_COMMANDS
    if is_room:
        waiting.append(command)
    return is_room


def _waiting(state: State, command: Command) -> list[Command] | None:
    """Return the list in which the first command of this id waits; None without one."""
    ordered = [state.orders.job.askers] if state.orders.job is not None else []
    lists = [state.reloading, *ordered, *(one for line in state.lines.values() for one in _lists(line))]
    key = (command.topic, command.line, command.id)
    return next((one for one in lists if any(key == (each.topic, each.line, each.id) for each in one)), None)


def _lists(line: Line) -> list[list[Command]]:
    changing = line.changeover.commands if line.changeover is not None else line.assignment.waiting
    loading = [one.commands for one in line.preloads.preparations]
    return [changing, *loading, *(one.commands for one in line.preloads.to_prepare)]
