"""The states of a message and of a connection, and which moves there are between them."""

import pytest

from agent.mqtt.link.connection_state import Cause, ConnectionState, Lifecycle
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


def test_a_connection_goes_through_its_states_and_keeps_the_first_reason() -> None:
    life = Lifecycle()
    life.move(ConnectionState.ACCEPTED)
    assert life.is_up
    life.ends(Cause.UNEXPLAINED, "first")
    life.ends(Cause.OTHER, "second")
    assert not life.is_up
    life.finish()
    life.finish()
    assert (life.state, life.detail, life.was_accepted) == (ConnectionState.LOST, "first", True)
    with pytest.raises(AssertionError, match="LOST to UP"):
        life.move(ConnectionState.UP)


def test_a_connection_that_was_refused_was_answered_and_never_accepted() -> None:
    life = Lifecycle()
    life.ends(Cause.TURNED_AWAY, "busy")
    life.finish()
    assert (life.state, life.was_answered, life.was_accepted) == (ConnectionState.FAILED, True, False)
