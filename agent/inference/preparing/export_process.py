"""The sandboxed process that exports a checkpoint, because a checkpoint is a pickle and may run any code.

Reads an `Export` from its standard input, enters the sandbox, and has ultralytics write an ONNX file into its folder.
It writes an `Answer` beside that file. Its parent trusts neither: it uses the answer as an error text only.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from agent.inference import sandbox
from agent.inference.backends.errors import brief, is_out_of_memory
from agent.inference.sandbox import Limits
from agent.messages.errors import ChangeoverError
from agent.processes.parent_death import die_with_parent

CHECKPOINT: Final = "model.pt"
EXPORTED: Final = "model.onnx"
ANSWER: Final = "answer.json"
SETTINGS: Final = "Ultralytics"  # the library's settings folder, made beforehand because the sandbox allows no new one
_OPSET: Final = 17  # the newest that TensorRT 8.6 and ONNX Runtime 1.16 fully support; RT-DETR needs 16


class Export(msgspec.Struct, frozen=True):
    """A request to export one checkpoint."""

    folder: str
    """The folder that holds CHECKPOINT and receives EXPORTED."""
    imgsz: int | None
    """Side of the input in pixels; None: the checkpoint's own."""
    parent: int
    """Process id of the waiting process; the export is killed when that one ends."""
    limits: Limits
    is_trusted: bool


class Answer(msgspec.Struct, frozen=True):
    """Outcome of an export; `error` is None where EXPORTED was written."""

    error: str | None = None
    is_out_of_memory: bool = False


def main() -> None:
    """Export the checkpoint, write the answer, and exit."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Export)
    die_with_parent(asked.parent)
    folder = Path(asked.folder)
    try:
        sandbox.enter(folder, asked.limits, is_trusted=asked.is_trusted)
        _export(folder, asked)
        answer = Answer()
    except ChangeoverError as error:
        answer = Answer(str(error))
    except Exception as error:  # noqa: BLE001 - the edge to torch, ultralytics and to whatever a pickle does
        answer = Answer(brief(error), is_out_of_memory(error))
    (folder / ANSWER).write_bytes(msgspec.json.encode(answer))
    os._exit(0)


def _export(folder: Path, asked: Export) -> None:
    from agent.inference.backends.ultralytics import exporter  # noqa: PLC0415 - torch comes inside the walls

    tempfile.tempdir = str(folder)  # because tempfile would test a folder by removing a file, which the sandbox refuses
    export = exporter(folder)
    sandbox.limit_memory(asked.limits)
    written = export(folder / CHECKPOINT, asked.imgsz, _OPSET)
    assert written == folder / EXPORTED, "it is named after the checkpoint"


if __name__ == "__main__":
    main()
