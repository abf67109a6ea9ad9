"""Probe for temperatures by psutil, the fallback for any Linux device."""

from typing import Final

import psutil

from agent.health.probes import plausible
from agent.health.sensors.reading import Reading, Zone

_BELOW_CRITICAL_C: Final = 10.0
"""Throttling is assumed to begin this far below a critical temperature."""


class PsutilProbe:
    """Reader of kernel sensors; always available, but empty on virtual machines."""

    def __init__(self) -> None:
        self.name: Final = "psutil"

    def read(self) -> Reading:
        """Return the sensors' temperatures."""
        zones = {}
        for chip, sensors in psutil.sensors_temperatures().items():
            for index, sensor in enumerate(sensors):
                celsius = plausible.celsius(sensor.current)
                if celsius is not None:
                    zones[f"{chip}_{sensor.label or index}"] = Zone(celsius, _limit_c(sensor.high, sensor.critical))
        return Reading(source="psutil", zones=zones, fallback=True)

    def close(self) -> None:
        """Do nothing, because nothing is held open."""


def _limit_c(high: float | None, critical: float | None) -> float | None:
    """Return the throttling temperature in °C: `high`, else 10 °C below `critical`; None where neither is plausible.

    `high` does not count where it equals `critical`, as with some drivers.
    """
    if (found := plausible.limit_c(high)) is not None and found != critical:
        return found
    last = plausible.limit_c(critical)
    return last - _BELOW_CRITICAL_C if last is not None else None
