"""Safe points of lines: when one may turn over to another version of its model."""

from agent.control.actions import Action
from agent.control.job import Job
from agent.control.lines.policy import choose
from agent.control.lines.report import clear_ready_unless_true
from agent.control.plant import Plant
from agent.control.state import NOTHING, Line, State


def is_idle(line: Line) -> bool:
    """Return True for a line that no PLC may run now, so that a swap disturbs nothing."""
    return line.published.ready == NOTHING and line.changeover is None


def take_plant(state: State, plant: Plant) -> list[Action]:
    """Take the plant with a changed catalog."""
    state.plant = plant
    return [action for line in state.lines.values() for action in clear_ready_unless_true(state, line)]


def affected(state: State) -> tuple[str, ...]:
    """Return the lines whose rules now choose another version than the one that was chosen for them."""
    return tuple(line.id for line in state.lines.values() if _has_other(state, line))


def hold(state: State, job: Job) -> None:
    """Keep the affected lines of a job at their version until their next safe point, unless it asks for no wait."""
    if job.activate == "changeover":
        state.orders.held.update(id_ for id_ in job.lines if not is_idle(state.lines[id_]))
    else:
        state.orders.held.difference_update(job.lines)


def release(state: State) -> None:
    """End the hold of lines at a safe point, and of those that have turned over."""
    for id_ in list(state.orders.held):
        line = state.lines.get(id_)
        if line is None or is_idle(line) or not _has_other(state, line):
            state.orders.held.discard(id_)


def turned(state: State, job: Job) -> bool:
    """Return True once each affected line of a job has turned over, or has tried to."""
    return not any(_waits(state, state.lines[id_]) for id_ in job.lines if id_ in state.lines)


def not_served(state: State, job: Job) -> list[str]:
    """Return the affected lines that serve another model than they should."""
    lines = [state.lines[id_] for id_ in job.lines if id_ in state.lines]
    return [line.id for line in lines if line.assignment.failed]


def _waits(state: State, line: Line) -> bool:
    if line.id in state.orders.held or line.changeover is not None or _has_other(state, line):
        return True
    target = line.assignment.target
    is_under_way = target is None or line.serving.model != target.reference
    return is_under_way and not line.assignment.failed


def _has_other(state: State, line: Line) -> bool:
    wanted = choose(state.plant, line).wanted
    return wanted is not None and wanted != line.assignment.chosen
