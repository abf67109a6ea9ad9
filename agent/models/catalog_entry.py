"""Schema of models.toml and its `[[model]]` entries."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from agent.files import expanded
from agent.messages.references import Layout, ModelFile, ModelVersion, Preprocess, Task
from agent.models.literals import MOST_CHARACTERS
from agent.models.model_files import is_inside
from agent.settings import fields
from agent.settings.model import Group

SUFFIXES: Final = (".onnx", ".xml", ".pt", ".engine")
_FILE: Final = f"a path or file:// URL of a file that ends in {', '.join(SUFFIXES)}"
_SHA256: Final = "64 hexadecimal digits (`changeover models add` writes them)"
_FILE_NAME: Final = "the name of a file beside `file`"
_NAME: Final = "a name of 1 to 64 letters, digits, dots, dashes or underscores"
_ORDER: Final = ("n", "s", "m", "l", "x")


def rank_of(variant: str) -> float | None:
    """Return a variant's rank by size: n 1 to x 5, `m-int8` half a rank below `m`; None for any other word."""
    base, dash, suffix = variant.partition("-")
    if base not in _ORDER or (dash and not suffix):
        return None
    return _ORDER.index(base) + 1 - (0.5 if dash else 0.0)


def _file(value: str, info: ValidationInfo) -> Path:
    scheme, separator, _ = value.partition("://")
    if separator and scheme in {"http", "https", "s3"}:
        raise ValueError(f"{_FILE} ({scheme}:// is not supported yet)")
    if separator and (scheme != "file" or urlsplit(value).netloc not in {"", "localhost"}):
        raise ValueError(_FILE)
    path = Path(unquote(urlsplit(value).path) if separator else value)
    if path.suffix not in SUFFIXES or "\0" in str(path):
        raise ValueError(_FILE)
    base = info.context.get("base") if isinstance(info.context, dict) else None
    return Path(base or ".", expanded(path)).absolute()


def _named(value: object) -> object:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError(_NAME)
    return text


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(_SHA256)
    return value.lower()


def _file_name(value: str) -> str:
    if not is_inside(value):
        raise ValueError(_FILE_NAME)
    return value


def _classes(value: tuple[str, ...]) -> tuple[str, ...]:
    """Raise ValueError for class names too long for a message to the worker."""
    if sum(map(len, value)) > MOST_CHARACTERS:
        raise ValueError(f"names of at most {MOST_CHARACTERS} characters together")
    return value


_FileName = Annotated[str, AfterValidator(_file_name)]
_Named = Annotated[str, BeforeValidator(_named)]
_Sha256 = Annotated[str, AfterValidator(_sha256)]


_Planes = tuple[float, float, float]
_Std = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class PreprocessEntry(Group):
    """The table `preprocess` of a `[[model]]` entry."""

    resize: Literal["", "letterbox", "corner", "stretch"] = ""
    colours: Literal["", "rgb", "bgr"] = ""
    scale: Annotated[float, Field(gt=0)] | None = None
    mean: _Planes | None = None
    std: _Std | None = None


class ModelEntry(Group):
    """One `[[model]]` entry; validation makes the paths `file` and `golden` absolute."""

    name: _Named = Field(description=_NAME)
    variant: _Named = Field(description="a variant such as n, s, m, l, x or m-int8")
    version: _Named = Field(description='a version such as "3"')
    file: Annotated[str, AfterValidator(_file)] = Field(description=_FILE)
    sha256: _Sha256 = Field(description=_SHA256)
    files: dict[_FileName, _Sha256] = Field(default_factory=dict)
    """sha256 of each further file of the model, by its name relative to the folder of `file`."""
    backend: Literal["auto", "openvino", "onnxruntime", "ultralytics"] = "auto"
    imgsz: Annotated[int, Field(ge=32, le=8192)] | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.25
    iou: Annotated[float, Field(ge=0, le=1)] = 0.7
    classes: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(_classes)] = ()
    golden: fields.FilePath | None = None
    rank: float | None = None
    layout: Layout = ""
    task: Task = ""
    preprocess: PreprocessEntry = PreprocessEntry()
    unsafe: bool = False

    def version_of(self) -> ModelVersion:
        """Convert the entry to a ModelVersion."""
        rank = self.rank if self.rank is not None else rank_of(self.variant)
        return ModelVersion(
            name=self.name,
            variant=self.variant,
            version=self.version,
            path=str(self.file),
            sha256=self.sha256,
            backend=self.backend,
            imgsz=self.imgsz,
            confidence=self.confidence,
            iou=self.iou,
            classes=self.classes,
            golden=None if self.golden is None else str(self.golden),
            rank=rank or 0.0,
            files=tuple(ModelFile(name, sha256) for name, sha256 in self.files.items()),
            layout=self.layout,
            task=self.task,
            preprocess=Preprocess(**self.preprocess.model_dump()),
            unsafe=self.unsafe,
        )


class CatalogFile(Group):
    """The whole models.toml."""

    model: tuple[ModelEntry, ...] = ()
