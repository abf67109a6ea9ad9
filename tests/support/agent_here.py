"""A whole agent on a thread of the test's own process, so that a test can give it sensors; its children are real."""

import threading
from dataclasses import dataclass, field, replace

from agent.app.agent import Agent
from agent.app.context import Context
from agent.health.probes.dummy import DummyProbe
from agent.health.sensors.host import Host, HostReading
from agent.health.sensors.probe_threads import Device
from agent.messages.events import StopRequested
from agent.models.catalog import Catalog
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
    """What the agent's sensors will say, and how often they are asked."""

    probe: DummyProbe = field(default_factory=DummyProbe)
    host: DummyHost = field(default_factory=DummyHost)
    interval_s: float = 0.05


class AgentHere(RunningAgent):
    """Started and stopped as a RunningAgent is."""

    sensors: Sensors
    _agent: Agent
    _thread: threading.Thread

    def start(self) -> None:
        settings = load(self.config, {})
        device = Device([self.sensors.probe], self.sensors.host, self.sensors.interval_s)
        self._agent = Agent(Context(settings, Catalog.load(settings.catalog.file)), device)
        self._thread = threading.Thread(target=self._agent.run, name="agent here")
        self._thread.start()

    @property
    def http_port(self) -> int:
        return self._agent.http_port

    def stop(self) -> int:
        self._agent.loop.put(StopRequested(15))
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return 0

    def kill(self) -> None:
        if self._thread.is_alive():
            self.stop()
