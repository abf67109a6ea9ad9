"""Model references `NAME[:VARIANT][@VERSION]`, and the catalog's record of a version."""

import re
from typing import Final, Literal, TypeAlias

import msgspec

_REFERENCE: Final = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64})(?::(?P<variant>[A-Za-z0-9._-]{1,64}))?(?:@(?P<version>[A-Za-z0-9._-]{1,64}))?"
)

Layout: TypeAlias = Literal[
    "",
    "v3",
    "v5",
    "v6",
    "v7",
    "v7-flat",
    "v8",
    "v9",
    "v10",
    "v11",
    "v12",
    "v26",
    "rows",
    "rtdetr",
    "rtdetr-rows",
    "rtdetr-logits",
    "dfine",
    "rfdetr",
    "detr",
    "yolox",
    "yolox-decoded",
    "yolonas",
    "yolonas-batch",
    "yolonas-flat",
]
"""Name in the catalog of a model's output format, empty where not stated; see `agent.inference.yolo.layouts`."""
Task: TypeAlias = Literal["", "detect", "segment", "pose", "obb", "classify"]


class ModelReading(msgspec.Struct, frozen=True):
    """The meaning of a model's output: its task, the catalog's word of its layout, and the names of its keypoints."""

    task: Task
    layout: str
    keypoints: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.task} ({self.layout})"


class ModelReference(msgspec.Struct, frozen=True):
    """A reference to a model; a `variant` or `version` of None is left open."""

    name: str
    variant: str | None = None
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelReference | None":
        """Parse `NAME[:VARIANT][@VERSION]`; None for any other text."""
        match = _REFERENCE.fullmatch(text)
        return cls(**match.groupdict()) if match else None

    def __str__(self) -> str:
        variant = f":{self.variant}" if self.variant else ""
        version = f"@{self.version}" if self.version else ""
        return f"{self.name}{variant}{version}"


class ModelFile(msgspec.Struct, frozen=True):
    """A further file of a model, named relative to the folder of the model's main file, with its sha256."""

    name: str
    sha256: str


def natural_key(text: str) -> list[str | int]:
    """Return a sort key that orders numbers inside a text by value: 1.9 before 1.10."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", text))]


class Preprocess(msgspec.Struct, frozen=True):
    """Conversion of a picture to a model's input where the layout implies another one; empty or None: as it implies."""

    resize: Literal["", "letterbox", "corner", "stretch"] = ""
    """Fit into the input: grey around, grey to the right and below, or stretched over all of it."""
    colours: Literal["", "rgb", "bgr"] = ""
    scale: float | None = None
    """Factor of a pixel from 0 to 255, before mean and std."""
    mean: tuple[float, float, float] | None = None
    """Taken away from each colour's plane, in the order of `colours`."""
    std: tuple[float, float, float] | None = None
    """Divisor of each colour's plane, after the mean is subtracted."""


class ModelVersion(msgspec.Struct, frozen=True):
    """One immutable version of a model in the catalog, with its file on this device."""

    name: str
    variant: str
    version: str
    path: str
    """Absolute path."""
    sha256: str
    backend: str = "auto"
    imgsz: int | None = None
    """Side of the model's input in pixels; None: as the file states it."""
    confidence: float = 0.25
    iou: float = 0.7
    classes: tuple[str, ...] = ()
    """Class names; empty: those that the file contains."""
    golden: str | None = None
    """Folder of golden images, or None."""
    rank: float = 0.0
    """Order of variants, greater is larger; see `agent.models.catalog`."""
    files: tuple[ModelFile, ...] = ()
    """Further files of the runtime: the .bin of an OpenVINO .xml, ONNX external data, names."""
    layout: Layout = ""
    """Layout of a file that does not state its own."""
    task: Task = ""
    """Task of a file that does not state its own."""
    preprocess: Preprocess = Preprocess()
    unsafe: bool = False
    """The sandbox may be skipped for a file that can run code when it is opened."""
    source: str = ""
    """Reference that the file is fetched from into the store; empty for a file of the user's own."""
    signature: str = ""
    """Signature's file as in the catalog; empty: the model's file with .minisig behind it."""
    is_tensors: bool = False
    """Loaded for requests with raw tensors, as no head reads its outputs; no line can use it. Never in a catalog."""

    @property
    def reference(self) -> str:
        """The full reference, as in every topic: `cap-check:n@3`."""
        return f"{self.name}:{self.variant}@{self.version}"
