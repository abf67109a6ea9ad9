"""Client of the reference manager's subprocess."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from agent.bench.plant.models import Models
from agent.bench.reference.competitor import Competitor, competitor

Kind = Literal["pt", "openvino", "onnx"]
_PROCESS: Final = "agent.bench.reference.manager_process"
_FILES: Final[dict[Kind, str]] = {"pt": "{}.pt", "openvino": "{}_openvino_model", "onnx": "{}.onnx"}


class Reference:
    """A running reference manager."""

    def __init__(self, process: Competitor) -> None:
        self.pid: Final = process.pid
        self._process: Final = process

    def swap_ms(self, size: str, kind: Kind = "pt") -> float:
        """Activate the model of a size and have it answer one frame; return the time of both."""
        return float(self._process.ask(_FILES[kind].format(size))["ms"])


@contextmanager
def reference(models: Models, log: Path, most: int) -> Iterator[Reference]:
    """Run the reference manager with a limit of `most` models."""
    assert models.folder is not None, "the reference manager needs files of its own"
    with competitor(_PROCESS, log, models.folder, models.imgsz, most) as process:
        yield Reference(process)
