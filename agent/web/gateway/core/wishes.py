"""The parameters of a request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.web.gateway.core.faults import RequestError, invalid


@dataclass(frozen=True)
class Wish:
    """The parameters of a request."""

    outputs: tuple[str, ...] = ()
    confidence: float | None = None
    iou: float | None = None
    imgsz: int | None = None


def wish_of(parameters: Mapping[str, Any], outputs: tuple[str, ...] = ()) -> Wish:
    """Return what parameters ask for; unknown ones are others' matter. Raises RequestError that names a wrong one."""
    for name in outputs:
        if outputs.count(name) > 1:
            raise invalid(f"outputs: output {name[:64]!r} already exists in request")
    return Wish(
        outputs, _number(parameters, "confidence"), _number(parameters, "iou"), _whole_number(parameters, "imgsz")
    )


def require_served(what: str, name: str, parameters: Mapping[str, Any]) -> None:
    """Raise RequestError for an input or output of an extension that is not served. `what`: "inputs" or "outputs"."""
    if parameters.get("classification"):
        raise invalid(f"{what}: {name[:64]!r}: classification is not served")
    if any(one.startswith("shared_memory_") for one in parameters):
        raise RequestError("unsupported", f"{what}: {name[:64]!r}: shared memory is not served")


def _number(parameters: Mapping[str, Any], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    wrong = invalid(f"parameters: {name} is {str(value)[:32]!r}, expected a number")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise wrong from None


def _whole_number(parameters: Mapping[str, Any], name: str) -> int | None:
    value = _number(parameters, name)
    if value is None:
        return None
    if not value.is_integer():
        raise invalid(f"parameters: {name} is {value:g}, expected a whole number")
    return int(value)
