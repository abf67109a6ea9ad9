"""Plays a scenario folder through the one pure function, with a worker that answers as it is told.

See tests/scenarios/README.md for the three files of a folder.
"""

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from agent.app.configuration.plant_builder import plant_of
from agent.control import snapshot
from agent.control.actions import Action, AskSupply, AssignLine, EndSupply, PrepareModel, ReadCatalog
from agent.control.events import (
    AckRate,
    CapChanged,
    CatalogRead,
    StreamChanged,
    SupplyLost,
    Tick,
    WorkerHung,
    WorkerLost,
    WorkerUp,
)
from agent.control.plant import Plant
from agent.control.reconciler import Event, reconcile
from agent.control.state import Now, State
from agent.messages.children import (
    Breaking,
    InferenceFailed,
    MemoryKept,
    Prepared,
    PrepareFailed,
    SwapFailed,
    Swapped,
    SwapReport,
)
from agent.messages.events import LinkTakenOver, LinkUp, Received, Reply
from agent.messages.references import ModelVersion
from agent.messages.short_lived.supply import (
    AliasesFound,
    Entered,
    EnterModels,
    Fault,
    Fetched,
    FetchFailed,
    FetchModels,
    FetchProgress,
    FollowAliases,
)
from agent.models.catalog import Catalog
from agent.settings import load
from support.scenario_files import as_line

TICK_S = 0.1
_COMING_UP_S = 3.0
_REPORT = SwapReport("cold", "make-before-break", 120.0, 20.0, 0.0, 0)
_OF_SUPPLY = (SupplyLost, FetchProgress, Fetched, AliasesFound, FetchFailed, Entered)
_BOOTS = [f"b{number:07d}" for number in range(100)]


@dataclass
class Worker:
    """Answers an assignment after `swap_s`, an announcement after `prepare_s`; the newest assignment of a line wins."""

    swap_s: float = 0.2
    prepare_s: float = 0.2
    fail: str | None = None
    fail_model: str | None = None
    prepare_fail: str | None = None
    prepare_may_fit: bool = False
    breaks: bool = False
    silent: bool = False
    active: dict[str, str] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def assigned(self, action: AssignLine) -> Iterator[tuple[float, Event]]:
        self.changes[action.line] = action.change
        if self.silent:
            return
        if self.breaks:
            yield self.swap_s / 2, Breaking(action.line, action.change)
        yield self.swap_s, self._outcome(action.line, action.change, action.model)

    def prepared(self, action: PrepareModel) -> Iterator[tuple[float, Event]]:
        if self.silent:
            return
        line, number, model = action.line, action.number, action.model.reference
        if self.prepare_fail is not None:
            reason: Any = self.prepare_fail
            yield self.prepare_s, PrepareFailed(line, number, model, reason, "said the worker", self.prepare_may_fit)
        else:
            yield self.prepare_s, Prepared(line, number, model)

    def _outcome(self, line: str, change: int, model: ModelVersion) -> Event:
        if self.fail is not None and self.fail_model in {None, model.reference}:
            reason: Any = self.fail
            return SwapFailed(line, change, model.reference, self.active.get(line), reason, "said the worker")
        return Swapped(line, change, model.reference, _REPORT)


@dataclass
class Supply:
    """Answers a request of an order after `fetch_s`; `refuse` is a reason, `lose` has it end instead."""

    fetch_s: float = 1.0
    refuse: str | None = None
    transient: bool = False
    lose: bool = False
    means: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Meanings of aliases: entries of the catalog, by alias."""
    missed: set[str] = field(default_factory=set)
    """Aliases that cannot be looked up."""
    writes: bool = True
    """Tags are written."""
    asked: list[FetchModels | FollowAliases | EnterModels] = field(default_factory=list)

    def answers(self, message: FetchModels | FollowAliases | EnterModels) -> Iterator[tuple[float, Event]]:
        self.asked.append(message)
        if self.lose:
            for number in range(1, 5):
                yield number * self.fetch_s, SupplyLost("killed")
        elif isinstance(message, EnterModels):
            yield 0.1, Entered(message.job)
        elif self.refuse is not None:
            reason: Any = self.refuse
            yield self.fetch_s, FetchFailed(message.job, reason, "said the source", self.transient)
        elif isinstance(message, FollowAliases):
            yield self.fetch_s, self._found(message)
        else:
            yield self.fetch_s / 2, FetchProgress(message.job, "downloading", 50, 100, 800.0, 1.0)
            yield self.fetch_s * 0.9, FetchProgress(message.job, "verifying", 100, 100, 800.0, 0.0)
            yield self.fetch_s, Fetched(message.job, message.entries)

    def _found(self, message: FollowAliases) -> AliasesFound:
        found, entries = [], {}
        missed = tuple((one.alias, one.variant) for one in message.aliases if one.alias in self.missed)
        unwritten = () if self.writes else tuple(tag[1] for one in message.aliases for tag in one.tags)
        fault = Fault("cut_off", "said the source", is_transient=True) if missed else None
        for one in message.aliases:
            if one.alias in self.means and one.alias not in self.missed:
                entry = self.means[one.alias]
                reference = f"{entry['name']}:{entry['variant']}@{entry['version']}"
                found.append((one.alias, one.variant, reference))
                if reference not in message.known:
                    entries[reference] = json.dumps(entry).encode()
        return AliasesFound(message.job, tuple(found), tuple(entries.values()), missed, (), unwritten, fault)


class Play:
    """One scenario, as it runs."""

    def __init__(self, folder: Path) -> None:
        settings = load(folder / "settings.toml", {})
        catalog = Catalog.load(settings.catalog.file)
        self.settings = settings
        self.catalog = catalog
        self.boots = iter(_BOOTS)
        self.state = State.of(self.plant())
        self.worker = Worker()
        self.supply = Supply()
        self.supply_generation = 0
        self.worker_generation = 0
        self.t = 0.0
        self.unix_offset_s = 0.0
        self.synced = True
        self.published: list[dict[str, Any]] = []
        self._due: list[tuple[float, int, int, Event]] = []
        self._numbers = count()

    def plant(self) -> Plant:
        return plant_of(self.settings, self.catalog, next(self.boots))

    def run(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Play all events; return what was published from the first one on."""
        first = events[0]
        is_cold = first.get("cold", False)
        start = _unix(first.get("start", "2026-01-14T12:00:00Z"))
        self.unix_offset_s = start - (0.0 if is_cold else _COMING_UP_S)
        self.synced = first.get("synced", True)
        if not is_cold:
            self._come_up()
        self.published.clear()
        origin_s = self.t
        for event in events:
            self._until(origin_s + event["t"])
            self._play(event)
        for one in self.published:
            one["t"] = round(one["t"] - origin_s, 3)
        return self.published

    def _come_up(self) -> None:
        self._give(Tick())
        self._give(LinkUp("5"))
        self._give(WorkerUp())
        for stream in self.state.streams:
            self._give(StreamChanged(stream, "online"))
        self._until(_COMING_UP_S)

    def _until(self, t: float) -> None:
        """Let time pass, with ticks and the worker's answers in between."""
        while self.t < t - 1e-9:
            target = min(self.t + TICK_S, t)
            while self._due and self._due[0][0] <= target:
                at, _, generation, event = heapq.heappop(self._due)
                self.t = max(at, self.t)
                if generation == (self.supply_generation if isinstance(event, _OF_SUPPLY) else self.worker_generation):
                    self._answer(event)
            self.t = target
            self._give(Tick())

    def _answer(self, event: Event) -> None:
        if isinstance(event, (Swapped, SwapFailed, Breaking)):
            if self.worker.changes[event.line] != event.change:
                return
            if isinstance(event, Swapped):
                self.worker.active[event.line] = event.model
        self._give(event)

    def _give(self, event: Event) -> None:
        now = Now(1000.0 + self.t, self.unix_offset_s + self.t, self.synced)
        for action in reconcile(self.state, event, now):
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case AssignLine():
                self._soon(self.worker.assigned(action))
            case PrepareModel():
                self._soon(self.worker.prepared(action))
            case AskSupply():
                self.supply_generation += 1
                self._soon(self.supply.answers(action.message))
                if isinstance(action.message, EnterModels):
                    self._enter(action.message)
            case EndSupply():
                self.supply_generation += 1
            case ReadCatalog():
                self._soon([(0.0, CatalogRead(plant_of(self.settings, self.catalog, self.state.plant.boot)))])
        said = as_line(action)
        if said is not None:
            self.published.append({"t": self.t, **said})

    def _enter(self, message: EnterModels) -> None:
        """Change the catalog as the supply process would."""
        added = self.state.plant.supply.versions(message.entries)
        replaced = {*message.remove, *(version.reference for version in added)}
        kept = tuple(version for version in self.catalog.versions if version.reference not in replaced)
        self.catalog = Catalog(self.catalog.file, (*kept, *added))

    def _soon(self, answers: Iterable[tuple[float, Event]]) -> None:
        for delay_s, event in answers:
            generation = self.supply_generation if isinstance(event, _OF_SUPPLY) else self.worker_generation
            heapq.heappush(self._due, (self.t + delay_s, next(self._numbers), generation, event))

    def _play(self, event: dict[str, Any]) -> None:
        match event:
            case {"topic": topic}:
                self._message(topic, event)
            case {"stream": stream, "status": status}:
                self._give(StreamChanged(stream, status))
            case {"worker": what}:
                self._worker(what)
            case {"answers": answers}:
                self._answers_now(answers)
            case {"restart": _}:
                self._restart(event)
            case _:
                self._world(event)

    def _world(self, event: dict[str, Any]) -> None:
        match event:
            case {"clock_s": jump_s}:
                self.unix_offset_s += jump_s
            case {"synced": synced} if "start" not in event:
                self.synced = synced
            case {"link": "up"}:
                self._give(LinkUp("5"))
            case {"link": "taken over"}:
                self._give(LinkTakenOver())
            case {"cap": rule, "max_variant": variant}:
                self._give(CapChanged(rule, variant, event.get("value")))
            case {"fails": stream, "in_a_row": in_a_row}:
                line = self.state.lines[self.state.plant.streams[stream]]
                model = event.get("model") or line.serving.model or ""
                self._give(InferenceFailed(stream, model, in_a_row, "said the worker"))
            case {"kept_bytes": kept_bytes}:
                self._give(MemoryKept(kept_bytes, ("cap-check:n@3",) if kept_bytes else ()))
            case {"rate_kbps": kbps}:
                self._give(AckRate(kbps))
            case {"start": _} | {"end": _} | {"cold": _}:
                pass
            case _:
                raise AssertionError(f"no event: {event}")

    def _answers_now(self, answers: dict[str, Any]) -> None:
        for name, value in answers.items():
            one = self.worker if hasattr(self.worker, name) else self.supply
            assert hasattr(one, name), f"no answer of the worker or of the supply process: {name}"
            setattr(one, name, value)

    def _message(self, topic: str, event: dict[str, Any]) -> None:
        full = topic.removeprefix("/") if topic.startswith("/") else f"{self.state.plant.base}/{topic}"
        payload = bytes.fromhex(event["hex"]) if "hex" in event else _bytes(event.get("payload", ""))
        reply = Reply(event["reply"]) if "reply" in event else None
        for number in range(event.get("times", 1)):
            if number:
                self._until(self.t + event["every_s"])
            self._give(Received(full, payload, event.get("retained", False), reply))

    def _worker(self, what: str) -> None:
        match what:
            case "up":
                self._give(WorkerUp())
            case "lost":
                self.worker_generation += 1
                self.worker.active.clear()
                self._give(WorkerLost("killed"))
            case "hung" | "moves":
                self._give(WorkerHung(what == "hung"))

    def _restart(self, event: dict[str, Any]) -> None:
        kept = msgspec.json.decode(msgspec.json.encode(snapshot.take(self.state)), type=snapshot.Snapshot)
        self.worker_generation += 1
        self.supply_generation += 1
        self.worker.active.clear()
        self.state = State.of(self.plant())
        snapshot.restore(self.state, kept)
        if event["restart"] == "whole":
            self._give(Tick())
            self._give(LinkUp("5"))
            self._give(WorkerUp())
            for stream in self.state.streams:
                self._give(StreamChanged(stream, "online"))


def _bytes(payload: object) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


def _unix(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
