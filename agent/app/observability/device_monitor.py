"""Watches temperature and memory, which limit the size of the models of all lines."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from agent.control.events import CapChanged
from agent.control.state import State
from agent.health.sensors.host import Host, HostReading
from agent.health.sensors.probe_threads import Device, own_probes
from agent.health.sensors.reading import Reading
from agent.health.sensors.stress_caps import Cap, Rule, Stress
from agent.messages.events import Noticed
from agent.messages.references import ModelReference

_log: Final = logging.getLogger(__name__)
_LOOK_INTERVAL_S: Final = 1.0
ALERTS: Final[dict[Rule, str]] = {"temperature": "hot", "memory": "memory_pressure"}

Decide = Callable[[CapChanged | Noticed], None]


class DeviceMonitor:
    """Owner of the probe threads. All methods run on the loop's thread and never wait for a sensor."""

    def __init__(self, state: State, hot_c: float | None, decide: Decide, device: Device | None = None) -> None:
        """Store the parts; only tests pass a `device`."""
        self._state: Final = state
        self._decide: Final = decide
        self._device: Final = device or Device(own_probes(), Host())
        self._stress: Final = Stress(hot_c)
        self._look_due_s = 0.0
        self.reading = Reading("")
        self.memory: HostReading | None = None

    @property
    def caps(self) -> Mapping[str, str]:
        """The largest allowed model variant, by the rule that sets this limit; empty without a limit."""
        return {str(rule): variant for rule, variant in self._stress.caps().items()}

    def start(self) -> None:
        """Start the probes."""
        self._device.start()

    def stop(self) -> None:
        """Stop the probes."""
        self._device.stop()

    def ages_s(self, now_s: float) -> dict[str, float]:
        """Return the age in seconds of each probe's last reading."""
        return self._device.ages_s(now_s)

    def tick(self, now_s: float, pids: Callable[[], dict[str, int]]) -> None:
        """Take the newest readings once a second, and report changed caps to control."""
        if now_s < self._look_due_s:
            return
        self._look_due_s = now_s + _LOOK_INTERVAL_S
        self._device.watch(pids())
        self.reading, self.memory = self._device.reading(now_s), self._device.memory(now_s)
        for cap in self._stress.look(now_s, self.reading, self.memory, self._largest_rank()):
            self._tell(cap)

    def _tell(self, cap: Cap) -> None:
        is_on = cap.max_variant is not None
        log = _log.warning if is_on else _log.info
        log("event=cap rule=%s max_variant=%s value=%r", cap.rule, cap.max_variant, cap.value)
        self._decide(CapChanged(cap.rule, cap.max_variant, cap.value))
        self._decide(Noticed(ALERTS[cap.rule], is_on, cap.value if is_on else None))

    def _largest_rank(self) -> float | None:
        plant = self._state.plant
        active = [ModelReference.parse(line.serving.model) for line in self._state.lines.values() if line.serving.model]
        return max((plant.rank(one.name, one.variant) for one in active if one and one.variant), default=None)
