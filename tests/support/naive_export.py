"""The process that exports, with its one door open: it reads any pickle, and runs what that says.

`python -m support.naive_export` stands where `agent.inference.preparing.export_process` stands, behind the same walls.
"""

import pickle
from pathlib import Path

from agent.inference import sandbox
from agent.inference.preparing import export_process


def _read_anything(folder: Path, asked: export_process.Export) -> None:
    sandbox.limit_memory(asked.limits)
    with (folder / export_process.CHECKPOINT).open("rb") as checkpoint:
        pickle.load(checkpoint)


if __name__ == "__main__":
    export_process._export = _read_anything
    export_process.main()
