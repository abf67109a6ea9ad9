"""A whole agent on a thread of the test's own process, so that a test can give it sensors; its children are real."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from agent.app.agent import Agent
from agent.app.context import Context
from agent.control.lines.changeover import end_trial
from agent.health.probes.dummy import DummyProbe
from agent.health.sensors.host import Host, HostReading
from agent.health.sensors.probe_threads import Device
from agent.messages.children import Message
from agent.messages.events import StopRequested
from agent.models.catalog import Catalog
from agent.processes.slots.frame_slot import FrameSlot
from agent.processes.supervisor import ChildSpec
from agent.settings import load
from support.running_agent import DEADLINE_S, RunningAgent


class DummyHost(Host):
    """Says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = HostReading(8 * 2**30, 4 * 2**30, 4 * 2**30, stalled=0.0, halted=0.0)

    def read(self) -> HostReading:
        return replace(self.reading, processes=dict.fromkeys(self.pids, 1_000_000))


@dataclass
class Sensors:
    """Readings that the agent's sensors give, and the interval at which they are asked."""

    probe: DummyProbe = field(default_factory=DummyProbe)
    host: DummyHost = field(default_factory=DummyHost)
    interval_s: float = 0.05


@dataclass(frozen=True)
class _Say:
    """An event of the loop that has a child say something, on control's own thread."""

    child: str
    message: Message


class _OpenAgent(Agent):
    """An agent whose worker a test can replace, and whose children a test can speak for."""

    change_worker: Callable[[ChildSpec], ChildSpec]

    @property
    def slots(self) -> Mapping[str, FrameSlot]:
        return self._streams.slots()

    @property
    def worker_pids(self) -> Mapping[str, int]:
        return self._workers.pids()

    def end_trials(self) -> None:
        for line in self._state.lines.values():
            end_trial(line)

    def _worker_spec(self, group: str) -> ChildSpec:
        return self.change_worker(super()._worker_spec(group))

    def _from_inbox(self, event: object) -> None:
        if isinstance(event, _Say):
            self._from_child(event.child, event.message)
        else:
            super()._from_inbox(event)


class AgentHere(RunningAgent):
    """Started and stopped as a RunningAgent is."""

    sensors: Sensors
    change_worker: Callable[[ChildSpec], ChildSpec] = staticmethod(lambda spec: spec)
    _agent: _OpenAgent
    _thread: threading.Thread

    def start(self) -> None:
        settings = load(self.config, {})
        device = Device([self.sensors.probe], self.sensors.host, self.sensors.interval_s)
        self._agent = _OpenAgent(Context(settings, Catalog.load(settings.catalog.file)), device)
        self._agent.change_worker = self.change_worker
        self._thread = threading.Thread(target=self._agent.run, name="agent here")
        self._thread.start()

    @property
    def http_port(self) -> int:
        return self._agent.http_port

    @property
    def slots(self) -> Mapping[str, FrameSlot]:
        """The frame slots by stream."""
        return self._agent.slots

    def worker_pid(self, group: str) -> int:
        """Return the process id of a group's worker, which runs."""
        return self._agent.worker_pids[group]

    def end_trials(self) -> None:
        """Let each swap be long ago, so that a failing model is not rolled back."""
        self._agent.end_trials()

    def say(self, child: str, message: Message) -> None:
        """Let a child say something."""
        self._agent.loop.put(_Say(child, message))

    def stop(self) -> int:
        self._agent.loop.put(StopRequested(15))
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return 0

    def kill(self) -> None:
        if self._thread.is_alive():
            self.stop()
