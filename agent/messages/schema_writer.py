"""Generates docs/schemas, one JSON schema for each payload: `python -m agent.messages.schema_writer FOLDER`."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.messages import canary, payloads
from agent.messages.errors import EXIT_MISTAKE, EXIT_OK

PAYLOADS: Final[dict[str, tuple[Any, str]]] = {
    "ack": (payloads.Ack, "The answer to a command: on ack, or on the response topic of MQTT 5."),
    "alert": (payloads.Alert, "On alert: one change."),
    "alerts": (list[payloads.Alert], "On alerts: those that are on."),
    "cache": (payloads.Cache, "On cache: the budget, and each resident model."),
    "canary": (canary.Canary, "On line/{line}/canary, every 10 s and at the end: the running or last comparison."),
    "detections": (payloads.DetectionsPayload, "On stream/{id}/detections, and kept ones on stream/{id}/replay."),
    "health": (payloads.Health, "On health, every 5 s. Empty or null where nothing on the device can tell."),
    "job-state": (payloads.JobState, "On job/{id}/state: how far an order of models is; the newest 16 stay."),
    "line-state": (payloads.LineState, "On line/{line}/state."),
    "meta": (payloads.Meta, "On meta: what this device is and runs."),
    "refused": (
        list[payloads.Refused],
        "The last refused commands, at most one a second.",
    ),
    "summary": (payloads.Summary, "On stream/{id}/summary: one second of a stream whose publish is summary."),
    "switch": (payloads.Switch, "On line/{line}/switch: one for each change of product or model."),
}
"""Payload type and description, by file name."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> dict[str, Any]:
    """Return the self-contained schema of one payload."""
    kind, description = PAYLOADS[name]
    (root,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    reference = str(root.get("$ref", ""))
    if reference:
        root = components.pop(reference.removeprefix("#/$defs/"))
    whole = {"$schema": _DIALECT, "$id": f"{name}.json"} | root | {"title": name, "description": description}
    if components:
        whole["$defs"] = components
    return {key: _cleaned(value) for key, value in whole.items()}


def _cleaned(node: object) -> object:
    """Return a schema whose descriptions are not indented; msgspec removes the indentation only since 0.23."""
    if isinstance(node, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _cleaned(value)
            for key, value in node.items()
        }
    return [_cleaned(one) for one in node] if isinstance(node, list) else node


def text_of(name: str) -> str:
    """Return the text of a schema file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write all schema files into the given folder; return an exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m agent.messages.schema_writer FOLDER\n")
        return EXIT_MISTAKE
    for name in PAYLOADS:
        Path(arguments[0], f"{name}.json").write_text(text_of(name), encoding="utf-8")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
