"""The worker processes, one for each group of lines, with their shares of memory and processor."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from agent.app.children.groups.ending_workers import EndingWorkers
from agent.app.children.groups.endless_calls import EndlessCalls
from agent.app.children.groups.memory_guard import HostMemory, MemoryGuard
from agent.app.children.groups.memory_shares import as_limit, guaranteed
from agent.app.children.groups.share_ledger import ShareLedger
from agent.app.children.groups.starts import Starts
from agent.app.children.groups.walls import Walls
from agent.app.children.memory_budget import (
    CAMERA_BYTES,
    FURTHER_WORKER_BYTES,
    PROCESSES_BYTES,
    Budgets,
    beside_bytes,
)
from agent.app.children.message_gate import Gate
from agent.app.children.worker import HUNG_AFTER_S, Share, name_of
from agent.control.events import WorkerHung
from agent.messages.children import Message
from agent.messages.groups.memory_share import ShareAsked, ShareHeld
from agent.messages.groups.told import MetaGroup
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import Settings

_PEAK_BYTES: Final = 512 << 20
"""Memory beyond models and runtime that a group may always take: a load's peak, and the 0.3 GB of torch."""


class Workers:
    """Owner of the groups' workers, for the loop's thread; groups and their lines stay until a restart.

    A single group has neither a ledger of shares nor walls, because the budget is its own.
    """

    def __init__(self, settings: Settings, supervisor: Supervisor, decide: Callable[[WorkerHung], None]) -> None:
        self._settings: Final = settings
        self._supervisor: Final = supervisor
        self._decide: Final = decide
        self._children: Final = {group: name_of(group) for group in settings.groups}
        self._groups: Final = {child: group for group, child in self._children.items()}
        self._group_of_line: Final = {id_: line.group for id_, line in settings.line.items()}
        self.gates: Final = {child: _gate(settings, group) for child, group in self._groups.items()}
        """Check of each worker's messages, by its name: it may speak of its own lines alone."""
        self._hung: Final[set[str]] = set()
        self._walls: Final = Walls({group: one.cpu_weight for group, one in settings.groups.items()})
        self._whole = Budgets(0)
        self._ledger: ShareLedger | None = None
        self._ending: Final = EndingWorkers(lambda group: supervisor.ending(self._children[group]))
        self._guard: Final = MemoryGuard(self.restart)
        self._calls: Final = EndlessCalls()
        self._starts: Final = Starts()
        self._lost: Final[set[str]] = set()
        """Groups whose worker was lost, and not started again yet."""
        self._room_bytes = 0

    def children(self) -> dict[str, str]:
        """Return the name of each group's worker process."""
        return dict(self._children)

    def group_of(self, child: str) -> str | None:
        """Return the group whose worker a child is; None for another child."""
        return self._groups.get(child)

    def divide(self, whole: Budgets) -> dict[str, MetaGroup]:
        """Divide the memory budget, and build walls; return what `meta` tells of groups, nothing of a single one."""
        self._whole = whole
        if len(self._children) == 1:
            return {}
        parts = guaranteed(self._settings, whole)
        self._ledger = ShareLedger(as_limit(whole), parts, self.send, end=self.restart)
        device = HostMemory.read()
        beside = PROCESSES_BYTES + CAMERA_BYTES * len(self._settings.stream) + beside_bytes(self._settings)
        # Less what the device is short at, because a leak must end before a cap on the models of all lines falls.
        self._room_bytes = device.available_bytes - device.spare_bytes - beside
        self._walls.build()
        self._set_walls()
        return {
            group: MetaGroup(
                lines=sorted(id_ for id_, of in self._group_of_line.items() if of == group),
                memory_bytes=part.device_bytes if whole.models_in_device else part.host_bytes,
                cpu_weight=self._settings.groups[group].cpu_weight,
                wall="ledger" if self._walls.missing else "cgroup",
                detail=self._walls.missing or None,
            )
            for group, part in parts.items()
        }

    def start(self, spec: Callable[[str], ChildSpec]) -> None:
        """Start each group's worker, with the parameters that `spec(group)` returns."""
        for group in self._children:
            self._supervisor.start(spec(group))

    def share_of(self, group: str) -> Share:
        """Return what a new worker of a group may use."""
        if self._ledger is None:
            return Share(as_limit(self._whole), self._whole)
        self._look_at_ending(time.monotonic())
        return Share(self._ledger.limits[group], self._whole, self._ledger.guaranteed[group])

    def started(self, group: str, pid: int) -> None:
        """Put a new worker process behind the walls of its group."""
        self._walls.admit(group, pid)
        # Without streams nobody waits for the rest of a start, and the worker lowers itself.
        yields = group in self._lost and group in self._group_of_line.values() and len(self.pids()) > 1
        self._lost.discard(group)
        if self._ledger is not None and yields:
            self._starts.began(group, pid, time.monotonic())

    def take(self, group: str, message: ShareAsked | ShareHeld) -> None:
        """Take a worker's request for memory, or its answer to one for giving back."""
        if self._ledger is not None:
            if isinstance(message, ShareAsked):
                self._ledger.asked(group, message)
            else:
                self._ledger.held(group, message)
            self._set_walls()

    def leaked(self, group: str, size_bytes: int) -> None:
        """Record the bytes that unloaded models of a group have not given back."""
        if self._ledger is not None:
            self._ledger.leaked(group, size_bytes)

    def send_to_line(self, line: str, message: Message) -> bool:
        """Send to the worker that serves a line; False where it is down."""
        return self.send(self._group_of_line[line], message)

    def send(self, group: str, message: Message) -> bool:
        """Send to a group's worker; False where it is down."""
        return self._supervisor.send(self._children[group], message)

    def restart(self, group: str, detail: str) -> None:
        """Kill a group's worker, which is then started again."""
        self._supervisor.restart(self._children[group], detail)

    def pids(self) -> dict[str, int]:
        """Return the process id of each worker that runs, by group."""
        pids = {group: self._supervisor.pid(child) for group, child in self._children.items()}
        return {group: pid for group, pid in pids.items() if pid is not None}

    def lost(self, group: str) -> str:
        """Record that a group's worker ended; return what is known of why beyond its exit code, or ""."""
        self._hung.discard(group)
        is_gone = self._ending.lost(group, time.monotonic())
        self._lost.add(group)
        if self._ledger is None:
            return ""
        reached = self._walls.reached(group)
        self._ledger.lost(group, is_gone=is_gone)
        self._set_walls()
        return reached

    @property
    def kept_bytes(self) -> int:
        """Bytes that killed workers hold which do not end."""
        return self._ending.kept_bytes

    def tick(self, now_s: float, turns_s: Mapping[str, float]) -> None:
        """Tell control of workers that stopped making progress, or resumed; lend and recall memory.

        `turns_s`: what one inference for each stream of a group usually takes together, in s, as far as it is known.
        """
        for group, child in self._children.items():
            silent_s = self._supervisor.beat_age_s(child, now_s)
            is_hung = silent_s is not None and silent_s > HUNG_AFTER_S
            if is_hung != (group in self._hung):
                (self._hung.add if is_hung else self._hung.discard)(group)
                self._decide(WorkerHung(is_hung, group))
        self._look_at_ending(now_s)
        if self._ledger is None:
            return
        for group, child in self._children.items():
            pid, call = self._supervisor.pid(child), self._supervisor.call(child)
            turn_s = turns_s.get(group, 0.0)
            # A nice value counts within its cgroup only, so the cgroup is lowered, too.
            part = self._starts.look(group, pid, now_s, serves=turn_s > 0)
            if part == 1:
                part = self._calls.look(group, pid, call, turn_s, is_hung=group in self._hung)
            self._walls.restrain(group, part)
        if self._ledger.tick():
            self._set_walls()
        if self._walls.missing:
            self._guard.tick(now_s, self.pids(), self._most_bytes(self._ledger))

    def _look_at_ending(self, now_s: float) -> None:
        gone, kept = self._ending.look(now_s)
        if self._ledger is None or not (gone or kept):
            return
        for group in gone:
            self._ledger.gone(group)
        for group, held_bytes in kept.items():
            self._ledger.outlasts(group, held_bytes)
        self._set_walls()

    def _set_walls(self) -> None:
        if self._ledger is not None:
            self._walls.limit(self._most_bytes(self._ledger))

    def _most_bytes(self, ledger: ShareLedger) -> dict[str, int]:
        """Return the memory that the others leave each group; less only where that is not enough for its own."""
        limits = {group: limit.host_bytes for group, limit in ledger.taken.items()}
        taken_bytes = sum(limits.values()) + FURTHER_WORKER_BYTES * len(limits)
        return {
            group: max(
                limit_bytes + FURTHER_WORKER_BYTES + _PEAK_BYTES,
                self._room_bytes - (taken_bytes - limit_bytes - FURTHER_WORKER_BYTES),
            )
            for group, limit_bytes in limits.items()
        }


def _gate(settings: Settings, group: str) -> Gate:
    lines = [id_ for id_, line in settings.line.items() if line.group == group]
    return Gate(lines, [stream.id for stream in settings.stream if stream.line in lines])
