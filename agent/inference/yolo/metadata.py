"""Metadata that exporters write into a model file: class names, input size, task and output layout."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion, Task
from agent.models.literals import MOST_CHARACTERS, read_literal, read_names

TASKS: Final[tuple[str, ...]] = get_args(Task)
RTDETR: Final = "rtdetr"
YOLO: Final = "yolo"

_ULTRALYTICS: Final = re.compile(r"Ultralytics (.*?) model\b", re.IGNORECASE | re.DOTALL)
_RTDETR_WORD: Final = re.compile(r"rt-?detr", re.IGNORECASE)
_YOLO_WORD: Final = re.compile(r"yolo", re.IGNORECASE)
_RTDETR_HEAD: Final = "RTDETRDecoder"
_RELEASE: Final = re.compile(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})")
_LARGEST_SIDE: Final = 8192
_PAIR: Final = 2
_MOST_KEYPOINTS: Final = 1024
_BY_ULTRALYTICS: Final = ("args", "head", "end2end", "channels")
"""Keys that only ultralytics writes; YOLOv5's own exporter writes `stride` and `names`."""


@dataclass(frozen=True)
class FileFacts:
    """Metadata of a model file; a value that the file lacks is None or empty."""

    names: tuple[str, ...] = ()
    """Labels by class index."""
    imgsz: tuple[int, int] | None = None
    """Height and width of the input in pixels."""
    task: str | None = None
    end2end: bool | None = None
    """The graph needs no suppression, according to the exporter."""
    head: str | None = None
    """Class name of the network's head."""
    family: str | None = None
    """RTDETR or YOLO, by `head` or by the exporter's description."""
    has_nms: bool | None = None
    """The graph contains suppression, according to the exporter."""
    release: tuple[int, int, int] | None = None
    """Version of ultralytics that wrote the file."""
    is_ultralytics: bool = False
    takes_bytes: bool = False
    """The input takes pixels as 0 to 255, because the graph scales them."""
    pack: str = ""
    """Name of the kind in which the file splits its output (`ends.packs`); empty where it does not."""
    kpt_shape: tuple[int, int] | None = None
    """Number of keypoints, and of their numbers: 2 (x, y) or 3 (x, y, score)."""
    kpt_names: tuple[str, ...] = ()
    """Names of the keypoints, in their order."""


def read_facts(metadata: Mapping[str, Any]) -> FileFacts:
    """Parse an exporter's metadata, whose values may be text or Python objects; unknown keys are ignored.

    Values longer than MOST_CHARACTERS, or deeply nested, count as missing.
    """
    end2end = read_literal(metadata.get("end2end"))
    head = _word(metadata.get("head"))
    description = _word(metadata.get("description")) or ""
    is_ultralytics = bool(_ULTRALYTICS.match(description)) or any(metadata.get(key) for key in _BY_ULTRALYTICS)
    return FileFacts(
        names=read_names(metadata.get("names")),
        imgsz=_imgsz(read_literal(metadata.get("imgsz"))),
        task=_word(metadata.get("task")),
        end2end=end2end if isinstance(end2end, bool) else None,
        head=head,
        family=_family(head, description),
        has_nms=_has_nms(read_literal(metadata.get("args"))),
        release=_release(metadata.get("version")) if is_ultralytics else None,
        is_ultralytics=is_ultralytics,
        kpt_shape=_kpt_shape(read_literal(metadata.get("kpt_shape"))),
        kpt_names=_kpt_names(read_literal(metadata.get("kpt_names"))),
    )


def agreed_task(version: ModelVersion, facts: FileFacts) -> Task:
    """Return the catalog's task, else the file's; empty where neither says one. Raises ModelError for another task."""
    if version.task and facts.task not in {None, version.task}:
        raise ModelError(
            "load_failed", f"{version.reference}: the catalog says {version.task}, the file {facts.task}: a task is one"
        )
    task = version.task or facts.task or ""
    if task not in TASKS:
        known = ", ".join(word for word in TASKS if word)
        raise ModelError("load_failed", f"{version.reference}: a {task} model; served are {known}")
    return cast("Task", task)


def agreed_names(version: ModelVersion, facts: FileFacts) -> tuple[str, ...]:
    """Return the catalog's class names, else the file's.

    Raises ModelError for different counts, and where neither names the classes.
    """
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
    """Return height and width of the input: the graph's `fixed` size, else the catalog's, else the metadata's.

    `fixed` is None where the graph leaves the size open; 640 x 640 is the last choice. Raises ModelError where the
    catalog contradicts a fixed size.
    """
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
    """Return the family by the head's class, else by the network's name in ultralytics' description.

    The rest of the description is ignored, because it is the path of the training data.
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


def _kpt_shape(value: object) -> tuple[int, int] | None:
    is_pair = isinstance(value, list | tuple) and len(value) == _PAIR and all(isinstance(one, int) for one in value)
    if not is_pair:
        return None
    count, numbers = cast("tuple[int, int]", tuple(cast("list[int]", value)))
    return (count, numbers) if 0 < count <= _MOST_KEYPOINTS and numbers in {2, 3} else None


def _kpt_names(value: object) -> tuple[str, ...]:
    """Return the names of keypoints, which ultralytics writes once for each class; those of the first one."""
    if isinstance(value, Mapping):
        value = next(iter(value.values()), None)
    return read_names(value) if isinstance(value, list | tuple) and len(value) <= _MOST_KEYPOINTS else ()


def _imgsz(value: object) -> tuple[int, int] | None:
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(side, int) for side in value):
        return None
    height, width = value[0], value[-1]
    return (height, width) if min(height, width) > 0 and max(height, width) <= _LARGEST_SIDE else None
