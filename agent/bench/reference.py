"""The reference manager as the benchmarks meet it: a process that brings a model in and answers one frame."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from agent.bench.children import end
from agent.bench.models import Models
from agent.messages.errors import TransientError

Kind = Literal["pt", "openvino", "onnx"]
_PROCESS: Final = "agent.bench.article.process"
_FILES: Final[dict[Kind, str]] = {"pt": "{}.pt", "openvino": "{}_openvino_model", "onnx": "{}.onnx"}


class Reference:
    """One process of the manager. `pid` is for measuring its memory."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.pid: Final = process.pid
        self._process: Final = process
        self._log: Final = log

    def swap_ms(self, size: str, kind: Kind = "pt") -> float:
        """Make a size the model in use and have it answer one frame; return the time of both."""
        assert self._process.stdin is not None, "it was asked for"
        assert self._process.stdout is not None, "it was asked for"
        try:
            self._process.stdin.write(_FILES[kind].format(size) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise TransientError(f"the reference manager is gone: {self._end_of_log()}") from error
        answer = self._process.stdout.readline()
        if not answer:
            raise TransientError(f"the reference manager failed: {self._end_of_log()}")
        return float(json.loads(answer)["ms"])

    def _end_of_log(self) -> str:
        return self._log.read_text(errors="replace")[-800:]


@contextmanager
def reference(models: Models, log: Path, most: int) -> Iterator[Reference]:
    """Run the reference manager with room for `most` models."""
    assert models.folder is not None, "the reference manager needs files of its own"
    command = [sys.executable, "-m", _PROCESS, str(models.folder), str(models.imgsz), str(most)]
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield Reference(process, log)
        finally:
            end(process)
