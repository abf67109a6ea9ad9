"""The states of a message, and which moves there are between them."""

import pytest

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.class_queue import ClassQueue
from agent.mqtt.outbox.outbox_item import MOVES, Kind, Move, OutboxItem, State


def test_each_state_but_the_last_can_be_reached_and_left() -> None:
    assert {State.WAITING, *MOVES.values()} == set(State)
    assert {state for state, _ in MOVES} == set(State) - {State.GONE}


def test_a_move_that_is_not_in_the_table_is_a_bug() -> None:
    queue = ClassQueue(Kind.EVENT, has_disk=True)
    entry = OutboxItem(1, Kind.EVENT, OutgoingMessage("t", b"x"), 0.0)
    queue.add(entry)
    with pytest.raises(KeyError, match="WRITTEN"):
        queue.move(entry, Move.WRITTEN)
