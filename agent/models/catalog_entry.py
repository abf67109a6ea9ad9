"""Schema of models.toml and its `[[model]]` entries."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from agent.messages.references import Layout, ModelFile, ModelVersion, Preprocess, Task
from agent.models.literals import MOST_CHARACTERS
from agent.models.model_files import METADATA, is_inside
from agent.settings import fields
from agent.settings.fields.sources import check_remote, local_path, remote_scheme
from agent.settings.tables.base import Group

BLOBS: Final = "sha256"
"""Folder of the store that has one folder for each release, named by `folder_name`."""
_MANIFEST_DIGITS: Final = 16
SUFFIXES: Final = (".onnx", ".xml", ".pt", ".engine")
_FILE: Final = (
    f"a path, or a URL file://, http(s):// or s3://BUCKET/KEY, of a file that ends in {', '.join(SUFFIXES)}; "
    "or oci://HOST/REPO:TAG, or mlflow://HOST/MODEL@ALIAS"
)
_NAMELESS: Final = ("oci", "mlflow")
"""Schemes whose references do not end in the file's name."""
_SIGNATURE: Final = "the name, path or URL of a minisign signature"
_LONGEST_SIGNATURE: Final = 2048
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


def _file(value: str, info: ValidationInfo) -> str:
    scheme = remote_scheme(value)
    if scheme is None:
        path = local_path(value, info, _FILE)
        if path.suffix not in SUFFIXES:
            raise ValueError(_FILE)
        return str(path)
    check_remote(value, _FILE)
    if scheme not in _NAMELESS and Path(urlsplit(value).path).suffix not in SUFFIXES:
        raise ValueError(_FILE)
    return value


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


def _signature(value: str) -> str:
    if not value.isprintable() or len(value) > _LONGEST_SIGNATURE:
        raise ValueError(_SIGNATURE)
    if remote_scheme(value) is not None:
        check_remote(value, _SIGNATURE)
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
    signature: Annotated[str, AfterValidator(_signature)] = ""
    """Minisign file of `file`, relative to its place; "": `file` with .minisig behind it."""
    unsafe: bool = False

    @property
    def is_remote(self) -> bool:
        """True for a file that is fetched into the store."""
        return remote_scheme(self.file) is not None

    def version_of(self, store_dir: Path) -> ModelVersion:
        """Convert the entry to a ModelVersion; a file that is fetched lies in `store_dir` under its sha256."""
        path = str(held_file(store_dir, self)) if self.is_remote else self.file
        rank = self.rank if self.rank is not None else rank_of(self.variant)
        return ModelVersion(
            name=self.name,
            variant=self.variant,
            version=self.version,
            path=path,
            sha256=self.sha256,
            backend=self.backend,
            imgsz=self.imgsz,
            confidence=self.confidence,
            iou=self.iou,
            classes=self.classes,
            golden=None if self.golden is None else str(self.golden),
            rank=rank or 0.0,
            files=self.kept_files(path),
            layout=self.layout,
            task=self.task,
            preprocess=Preprocess(**self.preprocess.model_dump()),
            unsafe=self.unsafe,
            source=self.file if self.is_remote else "",
            signature=self._held_signature(path),
        )

    def _held_signature(self, path: str) -> str:
        """Return the signature's path for the model's file at `path`; "": beside it, as the store keeps them."""
        if not self.signature or self.is_remote or remote_scheme(self.signature) is not None:
            return ""
        return str(Path(path).parent / self.signature)

    def kept_files(self, path: str) -> tuple[ModelFile, ...]:
        """Return the further files of the model whose own file lies at `path`, under the names that they have there."""
        if not self.is_remote:
            return tuple(ModelFile(name, sha256) for name, sha256 in self.files.items())
        return tuple(ModelFile(kept_name(path, name), sha256) for name, sha256 in self.files.items())


def kept_name(file: str, name: str) -> str:
    """Return the store's name of a further file of `file`: an .xml shares its stem, an ONNX file records its name."""
    if file.lower().endswith(".xml") and name != METADATA:
        return f"model{PurePosixPath(name).suffix}"
    return name


def clash(file: str, names: Iterable[str]) -> tuple[str, str] | None:
    """Return a further file of `file`, and its name in the store, where another one has that name; None without."""
    taken = {f"model{PurePosixPath(file).suffix.lower()}"}
    for name in names:
        kept = kept_name(file, name)
        if kept in taken:
            return name, kept
        taken.add(kept)
    return None


def held_file(store_dir: Path, entry: ModelEntry) -> Path:
    """Return the path in the store of a fetched model's file, also where it is not there yet."""
    own = Path(urlsplit(entry.file).path).suffix
    suffixes = [own] if own in SUFFIXES else list(SUFFIXES)
    folders = [store_dir / BLOBS / _folder_of(entry, f"model{suffix}") for suffix in suffixes]
    paths = [folder / f"model{suffix}" for folder, suffix in zip(folders, suffixes, strict=True)]
    return next((path for path in paths if path.is_file()), paths[0])


def _folder_of(entry: ModelEntry, main: str) -> str:
    return folder_name((ModelFile(main, entry.sha256), *entry.kept_files(main)))


def folder_name(files: tuple[ModelFile, ...]) -> str:
    """Return the folder name of a release: the sha256 of its file, and a hash of the list where it has several."""
    if len(files) == 1:
        return files[0].sha256
    text = "".join(f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name))
    return f"{files[0].sha256}-{hashlib.sha256(text.encode()).hexdigest()[:_MANIFEST_DIGITS]}"


class CatalogFile(Group):
    """The whole models.toml."""

    model: tuple[ModelEntry, ...] = ()
