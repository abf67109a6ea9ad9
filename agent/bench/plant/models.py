"""Models of the benchmarks: yolo11 n to x, built once by a subprocess and kept."""

import fcntl
import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from agent import isolated
from agent.bench.plant.children import say
from agent.messages.errors import MistakeError, TransientError
from agent.messages.references import ModelVersion, Task

IMGSZ: Final = 640
SIZES: Final = ("n", "s", "m", "l", "x")
NAMES: Final = (*SIZES, "n-b", "x-b")
TASKS: Final[Mapping[str, Task]] = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}
"""Tasks beside detection, by ultralytics' suffix of a model's name."""
_BUILD: Final = "agent.bench.reference.build"
_BUILD_VERSION: Final = 4
"""Raise it when `build` writes other models, so that kept ones are built again."""
_BUILD_S: Final = 1200.0
_STAMP: Final = "built.json"


@dataclass(frozen=True)
class BenchModel:
    """One model of the agent's catalog."""

    name: str
    """A size, possibly with a suffix; also the product that the model inspects."""
    onnx: Path
    sha256: str
    number: str = "1"
    """Version in the catalog."""

    @property
    def size(self) -> str:
        """The model's variant."""
        return self.name[0]

    @property
    def task(self) -> Task:
        """The model's task, by the suffix of its name."""
        return TASKS.get(self.name.partition("-")[2], "detect")

    @property
    def rival(self) -> str:
        """Stem of the reference manager's files: those of one size serve all detectors of it."""
        return self.size if self.task == "detect" else self.name

    @property
    def reference(self) -> str:
        """The full reference, as in topics."""
        return f"part-{self.name}:{self.size}@{self.number}"

    @property
    def version(self) -> ModelVersion:
        """The catalog's version."""
        return ModelVersion(f"part-{self.name}", self.size, self.number, str(self.onnx), self.sha256)


@dataclass(frozen=True)
class Models:
    """The agent's models by name, and the reference manager's files."""

    by_name: dict[str, BenchModel]
    folder: Path | None
    """Folder of the reference manager's files; None: there are none."""
    imgsz: int = IMGSZ
    precision: str = ""
    """Precision of the agent's artifacts; empty: the fastest one that answers as the file does."""

    def __getitem__(self, name: str) -> BenchModel:
        return self.by_name[name]


def ensure(folder: Path, names: Sequence[str] = NAMES, imgsz: int = IMGSZ, precision: str = "") -> Models:
    """Build missing models in `folder`, to be served in `precision`; safe for concurrent processes.

    Raises MistakeError where the extra is not installed, TransientError where building fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        missing = _missing(folder, names, imgsz)
        if missing:
            _build(folder, missing, imgsz)
    return Models({name: _model(folder, name) for name in names}, folder, imgsz, precision)


def _missing(folder: Path, names: Sequence[str], imgsz: int) -> Sequence[str]:
    """Return all of `names` where any is missing or outdated, because models of one size belong together."""
    try:
        built = json.loads((folder / _STAMP).read_bytes())
    except (OSError, ValueError):
        return names
    whole = built.get("by") == _builder(imgsz) and all((folder / f"{name}.onnx").exists() for name in names)
    return () if whole and set(names) <= set(built["names"]) else names


def _build(folder: Path, names: Sequence[str], imgsz: int) -> None:
    if not all(find_spec(library) for library in ("ultralytics", "torch", "onnx")):
        raise MistakeError("the benchmarks build their models with ultralytics: pip install 'changeover[bench]'")
    say(f"models go to {folder}")
    command = isolated.command(_BUILD, folder, imgsz, *names)
    log = folder / "build.log"
    with log.open("wb") as output:
        answer = subprocess.run(command, stdout=output, stderr=output, check=False, timeout=_BUILD_S)
    if answer.returncode:
        raise TransientError(f"the models could not be built: {log.read_text(errors='replace')[-800:]}")
    stamp = {"by": _builder(imgsz), "names": list(names)}
    (folder / _STAMP).write_text(json.dumps(stamp), encoding="utf-8")


def _builder(imgsz: int) -> dict[str, str]:
    """Return the versions that models depend on."""
    versions = {library: metadata.version(library) for library in ("ultralytics", "torch") if find_spec(library)}
    return versions | {"imgsz": str(imgsz), "build": str(_BUILD_VERSION)}


def _model(folder: Path, name: str) -> BenchModel:
    path = folder / f"{name}.onnx"
    return BenchModel(name, path, hashlib.sha256(path.read_bytes()).hexdigest())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
