"""Boards of a plant that was told in messages."""

import pytest
from support.plant_told import fault_board, normal_board

from agent.watch.board.board import Board


@pytest.fixture
def normal() -> Board:
    """Return two lines that run; look at the time 112."""
    return normal_board()


@pytest.fixture
def fault() -> Board:
    """Return a plant with an unknown product and a stalled camera; look at the time 118."""
    return fault_board()
