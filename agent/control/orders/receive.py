"""Orders as they come: `models/set` and `cmd/cancel`, taken or refused with a reason."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, get_args

from agent.control.actions import Action, Answer
from agent.control.job import OWN_JOBS, Activate, Job, Step
from agent.control.lines.changeover import answer
from agent.control.orders import jobs, steps
from agent.control.orders.jobs import Why
from agent.control.state import Command, Now, State
from agent.messages.errors import Reason
from agent.messages.payloads import Ack
from agent.messages.references import ModelReference
from agent.messages.topics import is_id

_KEYS: Final = ("id", "rev", "models", "index", "remove", "activate", "at", "ttl_s")
_OF_CONTENT: Final = ("id", "rev", "models", "index", "remove", "activate")
_MOST_REV: Final = 2**53
_MOST_REMOVED: Final = 64
_LONGEST_URL: Final = 2048


class _RefusedError(ValueError):
    def __init__(self, detail: str, reason: Reason = "not_understood") -> None:
        super().__init__(detail)
        self.reason: Final = reason


@dataclass(frozen=True)
class _Order:
    rev: int
    digest: str
    """sha256 of its content in canonical form, with its id."""
    activate: Activate
    entries: tuple[bytes, ...]
    index: str
    remove: tuple[str, ...]


def set_models(state: State, content: object, command: Command, now: Now) -> list[Action]:
    """Take an order for models; it supersedes the one under way. Refused: nothing changes."""
    id_ = command.id
    if id_ is None or not is_id(id_) or id_ in OWN_JOBS:
        own = " and ".join(f'"{one}"' for one in sorted(OWN_JOBS))
        detail = f'expected an "id" of 1 to 64 letters, digits, dots, dashes or underscores, other than {own}'
        return answer(state, command, "rejected", "not_understood", detail)
    rev = content.get("rev") if isinstance(content, dict) else None
    job = Job(id_, rev if _is_rev(rev) else None, askers=[command])
    try:
        order = _read(state, content)
    except _RefusedError as error:
        return jobs.end(state, job, "rejected", now, Why(error.reason, str(error)))
    orders = state.orders
    if orders.accepted_rev is not None and order.rev <= orders.accepted_rev:
        if order.rev == orders.accepted_rev and order.digest == orders.accepted:
            return answer(state, command, "noop", None, f"rev {order.rev} was taken before")
        detail = f"rev {order.rev} is not above {orders.accepted_rev}, that of the newest order"
        return jobs.end(state, job, "rejected", now, Why("stale", detail))
    orders.accepted_rev, orders.accepted = order.rev, order.digest
    job.activate, job.entries, job.index, job.remove = order.activate, order.entries, order.index, order.remove
    job.models = tuple(version.reference for version in state.plant.supply.versions(order.entries))
    job.step = Step.FETCH if order.entries or order.index else Step.OPEN
    actions: list[Action] = []
    if orders.job is not None:
        actions += jobs.end(state, orders.job, "superseded", now, Why("superseded", f"the order {id_} came"))
    orders.job = job
    return [*actions, *jobs.move(state, job, "queued", now), *answer(state, command, "accepted")]


def refuse_id_in_use(state: State, content: object, command: Command) -> list[Action]:
    """Refuse another order with the id of the job under way, whose published state and final ack stay its own."""
    job = state.orders.job
    if job is None or command.id != job.id or job.id in OWN_JOBS:
        return []
    with suppress(RecursionError):  # which is deeper than any order
        if isinstance(content, dict) and _digest(content) == state.orders.accepted:
            return []
    detail = f"the job {command.id} is under way with other content: give this order an id of its own"
    return [Answer(Ack(command.id, command.topic, "rejected", "not_understood", detail), command.reply)]


def cancel(state: State, content: dict[str, Any], command: Command, now: Now) -> list[Action]:
    """Cancel the job that `job`, or else `id`, names; what it entered in the catalog is taken out again."""
    named = content.get("job", content.get("id"))
    job = state.orders.job
    if job is None or named != job.id:
        known = f"the job under way is {job.id}" if job is not None else "no job is under way"
        return answer(state, command, "noop", None, f"no job {str(named)[:64]!r} is under way: {known}")
    actions = steps.undo(state, job, now)
    if actions is None:
        what = "is changing the catalog, has taken models off it, or entered what a line needs"
        detail = f"{job.id} {what}: order what it should be instead"
        return answer(state, command, "noop", None, detail)
    return [*actions, *answer(state, command, "done")]


def _is_rev(rev: object) -> bool:
    return isinstance(rev, int) and not isinstance(rev, bool) and 0 <= rev <= _MOST_REV


def _read(state: State, content: object) -> _Order:
    if not isinstance(content, dict):
        raise _RefusedError('expected a JSON object such as {"id": "job-7", "rev": 42, "models": [...]}')
    unknown = sorted(set(content) - set(_KEYS))
    if unknown:
        raise _RefusedError(f"unknown keys {', '.join(unknown)[:100]}; expected {', '.join(_KEYS)}")
    if not _is_rev(content.get("rev")):
        raise _RefusedError("rev: expected a whole number that grows with each order")
    activate = content.get("activate", "changeover")
    chosen = next((one for one in get_args(Activate) if one == activate), None)
    if chosen is None:
        raise _RefusedError(f"activate: expected one of {', '.join(get_args(Activate))}")
    supply = state.plant.supply
    if chosen == "window" and not supply.window:
        raise _RefusedError("activate: this device has no window; set supply.window, or order changeover or now")
    entries, index, remove = _entries(state, content), _index(content), _remove(content)
    if bool(entries) + bool(index) > 1 or not (entries or index or remove):
        raise _RefusedError("expected models, or index, or remove")
    _check(state, entries, remove)
    return _Order(content["rev"], _digest(content), chosen, entries, index, remove)


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps({key: content.get(key) for key in _OF_CONTENT}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _entries(state: State, content: dict[str, Any]) -> tuple[bytes, ...]:
    if "models" not in content:
        return ()
    try:
        return state.plant.supply.read(content["models"])
    except ValueError as error:
        raise _RefusedError(str(error)) from None


def _index(content: dict[str, Any]) -> str:
    index = content.get("index", "")
    is_url = isinstance(index, str) and len(index) <= _LONGEST_URL and index.isprintable()
    if not is_url or (index and "://" not in index):
        raise _RefusedError("index: expected the URL of a signed index's folder")
    return str(index)


def _remove(content: dict[str, Any]) -> tuple[str, ...]:
    remove = content.get("remove", [])
    listed = remove if isinstance(remove, list) else [None]
    named = [ModelReference.parse(one) if isinstance(one, str) else None for one in listed]
    if len(named) > _MOST_REMOVED or any(one is None or one.variant is None or one.version is None for one in named):
        raise _RefusedError(f"remove: expected a list of at most {_MOST_REMOVED} full references NAME:VARIANT@VERSION")
    return tuple(str(one) for one in named)


def _check(state: State, entries: tuple[bytes, ...], remove: tuple[str, ...]) -> None:
    """Refuse what would change a release, or leave a line without a model."""
    try:
        steps.check(state, entries, remove)
    except steps.UnknownModelError as error:
        raise _RefusedError(str(error), "unknown_model") from None
    except ValueError as error:
        raise _RefusedError(str(error)) from None
