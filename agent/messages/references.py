"""Model references, `NAME[:VARIANT][@VERSION]`, and what the catalog says of a version."""

import re
from typing import Final, Literal, TypeAlias

import msgspec

_REFERENCE: Final = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64})(?::(?P<variant>[A-Za-z0-9._-]{1,64}))?(?:@(?P<version>[A-Za-z0-9._-]{1,64}))?"
)

Layout: TypeAlias = Literal[
    "", "v3", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v26", "rows", "rtdetr", "rtdetr-rows", "detr", "yolox"
]
"""A catalog's word for what a model answers; see `agent.inference.yolo.layouts`."""
Task: TypeAlias = Literal["", "detect", "segment", "pose", "obb", "classify"]


class ModelReference(msgspec.Struct, frozen=True):
    """A model as somebody names it; `variant` and `version` may be left open."""

    name: str
    variant: str | None = None
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelReference | None":
        """Read `NAME[:VARIANT][@VERSION]`; None where `text` is not of that form."""
        match = _REFERENCE.fullmatch(text)
        return cls(**match.groupdict()) if match else None

    def __str__(self) -> str:
        variant = f":{self.variant}" if self.variant else ""
        version = f"@{self.version}" if self.version else ""
        return f"{self.name}{variant}{version}"


class ModelFile(msgspec.Struct, frozen=True):
    """A further file of a model: its name relative to the folder of the model's file, and its sha256."""

    name: str
    sha256: str


def natural_key(text: str) -> list[str | int]:
    """Return a key that sorts numbers inside a text by their value: 1.9 before 1.10."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", text))]


class ModelVersion(msgspec.Struct, frozen=True):
    """One immutable release in the catalog, with where its file lies on this device.

    `path` is absolute; `golden` is a folder or None. `imgsz` None and `classes` empty mean "as the file says".
    `files` are the further files that a runtime reads with it: the .bin of an OpenVINO .xml, ONNX external data, names.
    `rank` orders variants (greater is larger); see `agent.models.catalog`. `layout` and `task` say what
    a file holds that does not say it itself.
    """

    name: str
    variant: str
    version: str
    path: str
    sha256: str
    backend: str = "auto"
    imgsz: int | None = None
    confidence: float = 0.25
    iou: float = 0.7
    classes: tuple[str, ...] = ()
    golden: str | None = None
    rank: float = 0.0
    files: tuple[ModelFile, ...] = ()
    layout: Layout = ""
    task: Task = ""

    @property
    def reference(self) -> str:
        """The full reference, as every topic carries it: `cap-check:n@3`."""
        return f"{self.name}:{self.variant}@{self.version}"
