"""Choice of the models that the worker preloads in idle time: those that are likely next, then the configured ones."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

from agent.control.actions import Action, PreloadLikely
from agent.control.lines.policy import would_run
from agent.control.state import Now, State
from agent.control.workers import Likely
from agent.messages.references import ModelReference, ModelVersion

_MOST: Final = 64
"""Largest number of models in the list."""
_MOST_BYTES: Final = 64 << 10
"""Largest size of the list on its way to the worker, because a channel refuses long messages."""
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 3600.0


def follow(state: State, group: str, now: Now) -> list[Action]:
    """Send a group's worker the list of likely models wherever it changed, and what has left the catalog.

    The list is empty under a cap by heat or want of memory, because a load adds to both.
    """
    likely = state.groups[group].likely
    if not state.groups[group].is_up or now.monotonic_s < likely.paused_until_s:
        return []
    basis = _basis(state, group)
    if basis == likely.basis and likely.sent is not None:
        return []
    likely.basis = basis
    models = () if state.stress else tuple(_bounded(_likely(state, group)))
    before, likely.sent = likely.sent, models
    catalog, likely.catalog = likely.catalog, state.plant.models
    gone = tuple(_bounded(iter(set(catalog) - set(likely.catalog))))
    if before is None:
        likely.sent_s = now.monotonic_s
    return [PreloadLikely(models, gone, group)] if gone or models != (before or ()) else []


def worker_lost(likely: Likely, now: Now) -> None:
    """Forget the list, and pause: a minute after the first loss, up to an hour where workers with lists keep dying."""
    if likely.sent:
        is_one_more = now.monotonic_s - likely.sent_s < _LONGEST_PAUSE_S
        likely.losses = likely.losses + 1 if is_one_more else 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(likely.losses - 1, 10))
        likely.paused_until_s = now.monotonic_s + pause_s
    likely.sent, likely.catalog = None, ()


def _basis(state: State, group: str) -> tuple[object, ...]:
    """Return what the list follows from; equal parts are mostly the same objects, so that a comparison costs little."""
    lines = [(one.selection.order, one.rules, one.schedule.window, one.limits.caps) for one in state.lines_of(group)]
    return (state.plant, bool(state.stress), *lines)


def _likely(state: State, group: str) -> Iterator[ModelVersion]:
    """Yield models, the most likely first, some of them repeatedly."""
    if not state.plant.preloads:
        return
    chances: defaultdict[ModelVersion, float] = defaultdict(float)
    for line in state.lines_of(group):
        for product, chance in line.selection.order.chances().items():
            model = _model(state, line.id, line.rules.products.get(product))
            if model is not None:
                chances[model] += chance
    yield from sorted(chances, key=lambda one: -chances[one])
    for line in state.lines_of(group):
        for reference in (line.rules.default, *line.rules.products.values()):
            model = _model(state, line.id, reference)
            if model is not None:
                yield model


def _model(state: State, line: str, reference: ModelReference | None) -> ModelVersion | None:
    return would_run(state.plant, state.lines[line], reference) if reference is not None else None


def _bounded(models: Iterator[ModelVersion]) -> Iterator[ModelVersion]:
    size_bytes = 0
    for model in list(dict.fromkeys(models))[:_MOST]:
        size_bytes += len(msgspec.msgpack.encode(model))
        if size_bytes > _MOST_BYTES:
            return
        yield model
