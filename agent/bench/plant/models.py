"""The models that the benchmarks run: yolo11 n to x, built once by a process of its own, and kept."""

import fcntl
import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from agent import isolated
from agent.bench.plant.children import say
from agent.messages.errors import MistakeError, TransientError

IMGSZ: Final = 640
SIZES: Final = ("n", "s", "m", "l", "x")
NAMES: Final = (*SIZES, "n-b", "x-b")
_BUILD: Final = "agent.bench.article.build"
_BUILD_S: Final = 1200.0
_STAMP: Final = "built.json"


@dataclass(frozen=True)
class BenchModel:
    """One model of the agent's catalog: `name` is a size, perhaps with a suffix, and the product that it checks."""

    name: str
    onnx: Path
    sha256: str

    @property
    def size(self) -> str:
        """Its variant."""
        return self.name[0]

    @property
    def reference(self) -> str:
        """How topics name it."""
        return f"part-{self.name}:{self.size}@1"


@dataclass(frozen=True)
class Models:
    """The agent's models by name, and the folder where the reference manager finds its own (None: there are none)."""

    by_name: dict[str, BenchModel]
    folder: Path | None
    imgsz: int = IMGSZ

    def __getitem__(self, name: str) -> BenchModel:
        return self.by_name[name]


def ensure(folder: Path, names: Sequence[str] = NAMES, imgsz: int = IMGSZ) -> Models:
    """Build in `folder` what is missing there; safe to call from several processes at once.

    Raises MistakeError where the extra is not installed, and TransientError where building fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        missing = _missing(folder, names, imgsz)
        if missing:
            _build(folder, missing, imgsz)
    return Models({name: _model(folder, name) for name in names}, folder, imgsz)


def _missing(folder: Path, names: Sequence[str], imgsz: int) -> Sequence[str]:
    """Return all of `names` where one is missing or was built by other versions: a size's models belong together."""
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
    """Say what models depend on."""
    code = hashlib.sha256((Path(__file__).parents[1] / "article" / "build.py").read_bytes()).hexdigest()
    versions = {library: metadata.version(library) for library in ("ultralytics", "torch") if find_spec(library)}
    return versions | {"imgsz": str(imgsz), "code": code}


def _model(folder: Path, name: str) -> BenchModel:
    path = folder / f"{name}.onnx"
    return BenchModel(name, path, hashlib.sha256(path.read_bytes()).hexdigest())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
