"""Probe for jetson-stats, used besides sysfs on a Jetson; optional, because its service may be absent.

Fields as in its documents and code (4.3 to 7.2): temperatures in °C, -256 for an offline sensor; rails in mV, mA and
mW; GPU load in percent. Not tested on hardware.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.health.probes import ProbeAbsentError, plausible
from agent.health.sensors.reading import Reading, Zone
from agent.messages.errors import TransientError

_log: Final = logging.getLogger(__name__)
_UNIT_ERROR: Final = 20.0
"""Power that differs from volts times amperes by more than this factor is in another unit than expected."""


class JtopProbe:
    """Reader of a jtop client, which is made anew after any error because its thread does not recover."""

    def __init__(self, make: Callable[[], Any] | None = None) -> None:
        """Store the factory of unstarted clients; None uses the library's own."""
        self.name: Final = "jtop"
        self._make: Final = make or _library
        self._client: Any = None

    def read(self) -> Reading:
        """Return the newest values, waiting up to 3 s; raises any exception of the client."""
        try:
            return _reading(self._fresh())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the client."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _fresh(self) -> Any:  # noqa: ANN401 - the library has no types
        """Return the client once it has new values. Raises TransientError after 3 s without any."""
        client = self._open()
        if not client.ok():
            raise TransientError("jtop's service has sent nothing for 3 s")
        return client

    def _open(self) -> Any:  # noqa: ANN401 - the library has no types
        if self._client is None:
            client = self._make()
            client.start()
            self._client = client
        return self._client


def _library() -> Any:  # noqa: ANN401 - the library has no types
    try:
        from jtop import jtop  # noqa: PLC0415 - optional, and heavy
    except ImportError as error:
        raise ProbeAbsentError(f"jetson-stats is not installed: {error}") from None
    return jtop()


def _reading(client: Any) -> Reading:  # noqa: ANN401 - the library has no types
    hardware = client.board.get("hardware", {})
    power = client.power or {}
    return Reading(
        source="jtop",
        board=str(hardware.get("Module") or hardware.get("Model") or ""),
        system=_system(hardware),
        power_mode=str(client.nvpmodel.name) if client.nvpmodel is not None else "",
        zones=_zones(client.temperature),
        rails_w=_rails(power.get("rail", {})),
        power_w=_power_w("total", power.get("tot", {})),
        gpu_load=_gpu_load(client.gpu),
    )


def _system(hardware: Mapping[str, Any]) -> str:
    parts = [("L4T", hardware.get("L4T")), ("JetPack", hardware.get("Jetpack"))]
    return ", ".join(f"{name} {value}" for name, value in parts if value)


def _zones(temperature: Mapping[str, Mapping[str, Any]]) -> dict[str, Zone]:
    zones = {}
    for name, sensor in temperature.items():
        celsius = plausible.celsius(sensor.get("temp")) if sensor.get("online", True) else None
        if celsius is not None:
            limit = plausible.limit_c(sensor.get("max")) or plausible.limit_c(sensor.get("crit"))
            zones[name] = Zone(celsius, limit)
        elif sensor.get("online", True):
            _log.warning("event=implausible source=jtop zone=%r value=%r", name, sensor.get("temp"))
    return zones


def _rails(rails: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    read = {name: _power_w(name, rail) for name, rail in rails.items() if rail.get("online", True)}
    return {name: value for name, value in read.items() if value is not None}


def _power_w(name: str, rail: Mapping[str, Any]) -> float | None:
    """Return a rail's power in W; None where it is unknown, or contradicts the rail's voltage and current."""
    reported = rail.get("power")
    value = plausible.watts(reported / 1000) if isinstance(reported, (int, float)) else None
    volt, curr = rail.get("volt"), rail.get("curr")
    if value and isinstance(volt, (int, float)) and isinstance(curr, (int, float)) and volt * curr > 0:
        expected = volt * curr / 1e6
        if not 1 / _UNIT_ERROR < value / expected < _UNIT_ERROR:
            _log.warning("event=implausible source=jtop rail=%r power=%r volt=%r curr=%r", name, reported, volt, curr)
            return None
    return value


def _gpu_load(gpus: Mapping[str, Mapping[str, Any]]) -> float | None:
    loads = [status.get("load") for status in (gpu.get("status", {}) for gpu in gpus.values())]
    shares = [plausible.share(load / 100) for load in loads if isinstance(load, (int, float))]
    return max((one for one in shares if one is not None), default=None)
