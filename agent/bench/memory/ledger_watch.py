"""Recorder of the `cache` topic: predicted against measured sizes, and releases against the kernel's view."""

from dataclasses import dataclass, field
from math import inf

from agent.bench.figures import median
from agent.bench.memory.process_memory import Probe
from agent.messages.payloads import Cache

_BACK_WITHIN_S = 0.5
_LOOK_BACK_S = 0.1
_CALM_AFTER_S = 0.3


@dataclass(frozen=True)
class Release:
    """A release that the ledger announced."""

    at_s: float
    model: str
    bytes: int
    """Charged bytes."""


@dataclass(frozen=True)
class Load:
    """A completed load: predicted and measured size, and its period."""

    model: str
    predicted_bytes: int
    measured_bytes: int
    begun_s: float
    ended_s: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return abs(self.measured_bytes - self.predicted_bytes) / max(1, self.measured_bytes)


@dataclass
class LedgerWatch:
    """Recorder of one agent's ledger; `take` needs every message, in order."""

    releases: list[Release] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    used: list[tuple[float, int]] = field(default_factory=list)
    _charged: dict[str, tuple[float, int]] = field(default_factory=dict)
    _states: dict[str, str] = field(default_factory=dict)

    def take(self, at_s: float, cache: Cache) -> None:
        """Record the changes of one `cache` message."""
        self.used.append((at_s, cache.used_bytes))
        for one in cache.models:
            before = self._states.get(one.model)
            if one.state == "loading" and before != "loading":
                self._charged[one.model] = (at_s, one.bytes)
            elif before == "loading" and one.state not in {"loading", "releasing"}:
                begun_s, predicted_bytes = self._charged[one.model]
                self.loads.append(Load(one.model, predicted_bytes, one.bytes, begun_s, at_s))
            elif one.state == "releasing" and before not in {None, "releasing", "loading"}:
                self.releases.append(Release(at_s, one.model, one.bytes))
        self._states = {one.model: one.state for one in cache.models}

    def after_load(self, number: int) -> list[Load]:
        """Return each model's loads from its `number`th on, counted from 1."""
        counts: dict[str, int] = {}
        found = []
        for one in self.loads:
            counts[one.model] = counts.get(one.model, 0) + 1
            if counts[one.model] >= number:
                found.append(one)
        return found


def returned_shares(watch: LedgerWatch, since_s: float, rss: Probe) -> list[float]:
    """Return, for each release since `since_s`, the share of its bytes that were free within half a second.

    Releases within that time and without a load between them count as one, because their bytes cannot be told apart.
    The lowest reading counts, because the next load may begin as soon as the bytes are free.
    """
    shares = []
    groups = _together([one for one in watch.releases if one.at_s >= since_s], watch.loads)
    for number, some in enumerate(groups):
        begun_s, ended_s = some[0].at_s, some[-1].at_s
        until_s = groups[number + 1][0].at_s if number + 1 < len(groups) else inf
        before = rss.between(begun_s - _LOOK_BACK_S, begun_s)
        after = rss.between(begun_s, min(until_s, ended_s + _BACK_WITHIN_S))
        charged_bytes = sum(one.bytes for one in some)
        if before and after and charged_bytes:
            shares.append((max(before) - min(after)) / charged_bytes)
    return shares


def _together(releases: list[Release], loads: list[Load]) -> list[list[Release]]:
    found: list[list[Release]] = []
    for one in releases:
        before_s = found[-1][-1].at_s if found else -inf
        is_alone = one.at_s - before_s >= _BACK_WITHIN_S or any(before_s < load.begun_s < one.at_s for load in loads)
        if is_alone:
            found.append([])
        found[-1].append(one)
    return found


def transients(loads: list[Load], rss: Probe) -> list[int]:
    """Return, for each load, the process' peak during it beyond its level once the model was resident."""
    found = []
    for one in loads:
        during = rss.between(one.begun_s, one.ended_s)
        after = rss.between(one.ended_s + _CALM_AFTER_S, one.ended_s + 2 * _CALM_AFTER_S)
        if during and after:
            found.append(max(0, max(during) - int(median(after))))
    return found
