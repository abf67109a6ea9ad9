"""Metadata that exporters write into a model file: class names, input size, task, layout of the answer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.literals import MOST_CHARACTERS, read_literal

DETECT: Final = "detect"
RTDETR: Final = "rtdetr"
YOLO: Final = "yolo"

_ULTRALYTICS: Final = re.compile(r"Ultralytics (.*?) model\b", re.IGNORECASE | re.DOTALL)
_RTDETR_WORD: Final = re.compile(r"rt-?detr", re.IGNORECASE)
_YOLO_WORD: Final = re.compile(r"yolo", re.IGNORECASE)
_RTDETR_HEAD: Final = "RTDETRDecoder"
_RELEASE: Final = re.compile(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})")
_LARGEST_SIDE: Final = 8192
_BY_ULTRALYTICS: Final = ("args", "head", "end2end", "channels")
"""Keys that ultralytics alone writes; YOLOv5's own exporter writes `stride` and `names`."""


@dataclass(frozen=True)
class FileFacts:
    """Metadata of a file; None and empty where it has none.

    `imgsz` is height, width. `family`: RTDETR or YOLO, by `head` or `description`. `end2end` and `has_nms` (of `args`):
    the exporter's words. `release`: of ultralytics. `takes_bytes`: pixels go in as 0 to 255, and are scaled inside.
    """

    names: tuple[str, ...] = ()
    imgsz: tuple[int, int] | None = None
    task: str | None = None
    end2end: bool | None = None
    head: str | None = None
    family: str | None = None
    has_nms: bool | None = None
    release: tuple[int, int, int] | None = None
    is_ultralytics: bool = False
    takes_bytes: bool = False


def read_facts(metadata: Mapping[str, Any]) -> FileFacts:
    """Read an exporter's metadata, its values as text or as what they mean; those of other exporters give empty facts.

    Values longer than MOST_CHARACTERS, or nested deep, count as not there.
    """
    end2end = read_literal(metadata.get("end2end"))
    head = _word(metadata.get("head"))
    description = _word(metadata.get("description")) or ""
    is_ultralytics = bool(_ULTRALYTICS.match(description)) or any(metadata.get(key) for key in _BY_ULTRALYTICS)
    return FileFacts(
        names=_names(read_literal(metadata.get("names"))),
        imgsz=_imgsz(read_literal(metadata.get("imgsz"))),
        task=_word(metadata.get("task")),
        end2end=end2end if isinstance(end2end, bool) else None,
        head=head,
        family=_family(head, description),
        has_nms=_has_nms(read_literal(metadata.get("args"))),
        release=_release(metadata.get("version")) if is_ultralytics else None,
        is_ultralytics=is_ultralytics,
    )


def agreed_names(version: ModelVersion, facts: FileFacts) -> tuple[str, ...]:
    """Return the catalog's class names, else the file's.

    Raises ModelError for a file of another task, for counts that differ, and where nobody names the classes.
    """
    if version.task and facts.task not in {None, version.task}:
        raise ModelError(
            "load_failed", f"{version.reference}: the catalog says {version.task}, the file {facts.task}: a task is one"
        )
    task = version.task or facts.task
    if task not in {None, DETECT}:
        raise ModelError("load_failed", f"{version.reference}: a {task} model; only detection models are served")
    if version.classes and facts.names and len(version.classes) != len(facts.names):
        raise ModelError(
            "proof_failed",
            f"{version.reference}: the catalog names {len(version.classes)} classes, the file {len(facts.names)}",
        )
    if not (version.classes or facts.names):
        what = "the file names no classes that can be read; give `classes` in the catalog"
        raise ModelError("load_failed", f"{version.reference}: {what}")
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


def _word(value: object) -> str | None:
    is_said = isinstance(value, str) and 0 < len(value) <= MOST_CHARACTERS and value != "None"
    return str(value) if is_said else None


def _family(head: str | None, description: str) -> str | None:
    """Name the family by the head's class, else by the word that ultralytics makes of the network's file.

    The word alone: what follows it is where the training data lay.
    """
    if head:
        return RTDETR if head == _RTDETR_HEAD else YOLO
    said = _ULTRALYTICS.match(description)
    word = said.group(1) if said else ""
    if _RTDETR_WORD.search(word):
        return RTDETR
    return YOLO if _YOLO_WORD.search(word) else None


def _has_nms(args: object) -> bool | None:
    return bool(args["nms"]) if isinstance(args, Mapping) and "nms" in args else None


def _release(value: object) -> tuple[int, int, int] | None:
    found = _RELEASE.match(value) if isinstance(value, str) else None
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _names(value: object) -> tuple[str, ...]:
    """Return names in the order of their index; none where an index is missing, for then none is sure."""
    if isinstance(value, Mapping):
        by_index = {_index(key): name for key, name in value.items()}
        value = [by_index.get(index) for index in range(len(value))]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str | int | float) for name in value):
        return ()
    return tuple(map(str, value))


def _index(key: object) -> int | None:
    try:
        return int(key)  # type: ignore[call-overload, no-any-return] # anything else is refused below
    except (TypeError, ValueError):
        return None


def _imgsz(value: object) -> tuple[int, int] | None:
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(side, int) for side in value):
        return None
    height, width = value[0], value[-1]
    return (height, width) if min(height, width) > 0 and max(height, width) <= _LARGEST_SIDE else None
