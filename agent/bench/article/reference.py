"""The reference manager as the benchmarks meet it: a process that brings a model in and answers one frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from agent.bench.article.competitor import Contestant, contestant
from agent.bench.plant.models import Models

Kind = Literal["pt", "openvino", "onnx"]
_PROCESS: Final = "agent.bench.article.process"
_FILES: Final[dict[Kind, str]] = {"pt": "{}.pt", "openvino": "{}_openvino_model", "onnx": "{}.onnx"}


class Reference:
    """One process of the manager. `pid` is for measuring its memory."""

    def __init__(self, process: Contestant) -> None:
        self.pid: Final = process.pid
        self._process: Final = process

    def swap_ms(self, size: str, kind: Kind = "pt") -> float:
        """Make a size the model in use and have it answer one frame; return the time of both."""
        return float(self._process.ask(_FILES[kind].format(size))["ms"])


@contextmanager
def reference(models: Models, log: Path, most: int) -> Iterator[Reference]:
    """Run the reference manager with room for `most` models."""
    assert models.folder is not None, "the reference manager needs files of its own"
    with contestant(_PROCESS, log, models.folder, models.imgsz, most) as process:
        yield Reference(process)
