"""The file of metadata beside an OpenVINO model: ultralytics' `metadata.yaml`, or YOLOv5's `NAME.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.inference.yolo.literals import MOST_CHARACTERS

_MOST_BYTES: Final = 2 * MOST_CHARACTERS


def read_sidecar(path: Path) -> Mapping[str, Any] | None:
    """Read the metadata of an .xml file; None where there is none.

    A file that is too large, nests too deep, or is no mapping says nothing: its reader takes a hundred times the text.
    """
    for file in (path.parent / "metadata.yaml", path.with_suffix(".yaml")):
        if file.is_file():
            return _read(file)
    return None


def _read(file: Path) -> Mapping[str, Any]:
    import yaml  # type: ignore[import-untyped] # noqa: PLC0415 - only such an export needs it

    if file.stat().st_size > _MOST_BYTES:
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}
