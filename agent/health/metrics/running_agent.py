"""Client of a running agent's own `/metrics`, for commands that run at the same time."""

import http.client
from dataclasses import dataclass
from typing import Final

_TIMEOUT_S: Final = 2.0
_LARGEST_BYTES: Final = 4 << 20
_ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not served


@dataclass(frozen=True)
class RunningAgent:
    """Device id and loaded models of a running agent, read from its `/metrics`."""

    device: str
    resident: dict[str, str]
    """State of each loaded model, by its reference."""


def ask(bind: str, device: str) -> RunningAgent | None:
    """Return the agent of `device` that serves `bind`; None where nobody answers, or another program or device does."""
    if not bind:
        return None
    text = fetch(bind, "/metrics")
    found = _read(text) if text is not None else None
    return found if found is not None and found.device == device else None


def fetch(bind: str, path: str) -> str | None:
    """Return the body of one page, whatever its status; None where nobody answers."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_ANY.get(host, host), int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(_LARGEST_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _read(text: str) -> RunningAgent | None:
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - only for an agent that answers

    device, resident = None, {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "changeover_info":
                    device = sample.labels.get("device")
                elif sample.name == "changeover_resident_model_bytes":
                    resident[sample.labels["model"]] = sample.labels["state"]
    except (ValueError, KeyError):
        return None
    return RunningAgent(device, resident) if device is not None else None
