"""Stages of a changeover, and the moves between them."""

from enum import Enum
from typing import Final


class Stage(Enum):
    """Stage of a changeover; `MOVES` has the allowed moves."""

    WAITING = "waiting"
    """No worker has the assignment yet."""
    SWITCHING = "switching"
    """The worker has the assignment."""
    PREPARING = "preparing"
    """The worker has the model's checkpoint compiled, before it can be loaded."""
    SWITCHED = "switched"
    FAILED = "failed"
    SUPERSEDED = "superseded"


_ENDS: Final = frozenset({Stage.SWITCHED, Stage.FAILED, Stage.SUPERSEDED})
MOVES: Final[dict[Stage, frozenset[Stage]]] = {
    Stage.WAITING: _ENDS | {Stage.SWITCHING},
    Stage.SWITCHING: _ENDS | {Stage.PREPARING, Stage.WAITING},
    Stage.PREPARING: _ENDS | {Stage.SWITCHING, Stage.WAITING},
    **dict.fromkeys(_ENDS, frozenset()),
}
"""Stages that may follow each stage; a lost worker returns a changeover to WAITING."""
