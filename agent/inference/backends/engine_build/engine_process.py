"""The sandboxed process that builds one engine: no network, no other program, no file but its folder and the GPU's.

It reads an `EngineRequest` from its standard input. Its parent trusts neither its answer nor its engine before it has
compared the engine's outputs.
"""

import os
import sys
from pathlib import Path

import msgspec

from agent.inference import sandbox
from agent.inference.backends.engine_build.request import ANSWER_FILE, PROGRESS, EngineAnswer, EngineRequest
from agent.inference.backends.errors import brief, is_out_of_memory
from agent.messages.errors import ChangeoverError
from agent.processes.parent_death import die_with_parent


def main() -> None:
    """Build the engine, write the answer, and exit."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineRequest)
    die_with_parent(asked.parent)
    folder = Path(asked.folder)
    try:
        sandbox.enter(folder, asked.limits, is_trusted=asked.is_trusted, for_gpu=True)
        from agent.inference.backends.engine_build.builder import build  # noqa: PLC0415 - TensorRT comes inside the walls

        answer = build(asked, lambda text: _tell(folder, text))
    except ChangeoverError as error:
        answer = EngineAnswer(str(error))
    except Exception as error:  # noqa: BLE001 - the edge to TensorRT
        answer = EngineAnswer(brief(error), is_out_of_memory(error))
    (folder / ANSWER_FILE).write_bytes(msgspec.json.encode(answer))
    os._exit(0)


def _tell(folder: Path, text: str) -> None:
    (folder / PROGRESS).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
