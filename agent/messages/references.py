"""Model references, `NAME[:VARIANT][@VERSION]`, and what the catalog says of a version."""

import re
from typing import Final

import msgspec

_REFERENCE: Final = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64})(?::(?P<variant>[A-Za-z0-9._-]{1,64}))?(?:@(?P<version>[A-Za-z0-9._-]{1,64}))?"
)


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


class ModelVersion(msgspec.Struct, frozen=True):
    """One immutable release in the catalog, with where its file lies on this device.

    `path` is absolute; `golden` is a folder or None. `imgsz` None and `classes` empty mean "as the file says".
    `files` are the further files that a runtime reads with it: the .bin of an OpenVINO .xml, ONNX external data, names.
    `rank` orders variants (greater is larger); see `agent.models.catalog`. `unsafe`: a file that runs code when it is
    read may be opened without walls.
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
    unsafe: bool = False

    @property
    def reference(self) -> str:
        """The full reference, as every topic carries it: `cap-check:n@3`."""
        return f"{self.name}:{self.variant}@{self.version}"
