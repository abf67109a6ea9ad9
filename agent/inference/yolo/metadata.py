"""What exporters write into a model file about it: class names, input size, task."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

DETECT: Final = "detect"


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself; None and empty where it is silent. `imgsz` is height, width; `head` a class name."""

    names: tuple[str, ...] = ()
    imgsz: tuple[int, int] | None = None
    task: str | None = None
    end2end: bool | None = None
    head: str | None = None


def read_facts(metadata: Mapping[str, Any]) -> FileFacts:
    """Read the metadata of an ultralytics export, its values as text or as what they mean; strangers give no facts."""
    end2end = _value(metadata.get("end2end"))
    return FileFacts(
        names=_names(_value(metadata.get("names"))),
        imgsz=_imgsz(_value(metadata.get("imgsz"))),
        task=str(metadata["task"]) if metadata.get("task") else None,
        end2end=end2end if isinstance(end2end, bool) else None,
        head=str(metadata["head"]) if metadata.get("head") else None,
    )


def agreed_names(version: ModelVersion, facts: FileFacts) -> tuple[str, ...]:
    """Return the catalog's class names, else the file's; refuse a file of another task, and counts that differ."""
    if facts.task not in {None, DETECT}:
        raise ModelError("load_failed", f"{version.reference}: a {facts.task} model; only detection models are served")
    if version.classes and facts.names and len(version.classes) != len(facts.names):
        raise ModelError(
            "proof_failed",
            f"{version.reference}: the catalog names {len(version.classes)} classes, the file {len(facts.names)}",
        )
    return version.classes or facts.names


def agreed_imgsz(version: ModelVersion, facts: FileFacts, fixed: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width of the input: the file's `fixed` one, else the catalog's, else what the file says."""
    if fixed is None:
        return (version.imgsz, version.imgsz) if version.imgsz else facts.imgsz or (640, 640)
    if version.imgsz and fixed != (version.imgsz, version.imgsz):
        raise ModelError(
            "load_failed",
            f"{version.reference}: imgsz is {version.imgsz} in the catalog, and the file takes {fixed[0]} x {fixed[1]}",
        )
    return fixed


def _value(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(str(name) for _, name in sorted(value.items(), key=lambda item: int(item[0])))
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _imgsz(value: object) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and value and all(isinstance(side, int) for side in value):
        return value[0], value[-1]
    return None
