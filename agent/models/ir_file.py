"""Reader of the parts of an OpenVINO IR file that `models add` checks: inputs, class names, size of the weights."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.models.literals import read_names

_MOST_BYTES: Final = 64 << 20


class NotIrError(Exception):
    """A file is no OpenVINO IR file; the message tells a user why."""


@dataclass(frozen=True)
class IrFile:
    """Structure of an OpenVINO IR file."""

    inputs: tuple[tuple[int | None, ...], ...]
    """Shape of each input; None for a dynamic dimension."""
    has_names: bool
    """The file names its classes."""
    weights_bytes: int
    """Size in bytes that the .bin beside it must have at least."""


def read(path: Path) -> IrFile:
    """Parse an OpenVINO .xml. Raises NotIrError where the file is none, and OSError where it cannot be read."""
    if path.stat().st_size > _MOST_BYTES:
        raise NotIrError(f"is longer than {_MOST_BYTES >> 20} MiB, which no OpenVINO .xml is")
    inputs: list[tuple[int | None, ...]] = []
    has_names, weights_bytes, root, kind = False, 0, "", ""
    try:
        for event, element in ET.iterparse(path, events=("start", "end")):  # noqa: S314 - below a bound; expat limits entities
            if event == "start":
                root = root or element.tag
                kind = element.get("type", "") if element.tag == "layer" else kind
                continue
            if element.tag == "data" and kind == "Parameter":
                inputs.append(tuple(_side(word) for word in element.get("shape", "").split(",") if word.strip()))
            elif element.tag == "data" and kind == "Const":
                weights_bytes = max(weights_bytes, int(element.get("offset", 0)) + int(element.get("size", 0)))
            has_names = has_names or _has_names(element.tag, element.get("value", ""))
            if element.tag == "layer":
                element.clear()
    except ET.ParseError as error:
        raise NotIrError(f"is no OpenVINO .xml, or is cut ({error})") from None
    except ValueError:
        raise NotIrError("is no OpenVINO .xml: a number in it is none") from None
    if root != "net":
        raise NotIrError(f"is no OpenVINO .xml: it begins with <{root}>, not with <net>")
    return IrFile(tuple(inputs), has_names, weights_bytes)


def _has_names(tag: str, value: str) -> bool:
    return bool(read_names(value) if tag == "names" else value.split() if tag == "labels" else ())


def _side(word: str) -> int | None:
    return int(word) if word.strip().isdecimal() else None
