"""The process that exports, with its one door open: it reads any pickle, and runs what that says.

`python -m support.naive_export` stands where `agent.inference.export` stands, behind the same walls.
"""

import pickle
from pathlib import Path

from agent.inference import export, sandbox


def _read_anything(folder: Path, asked: export.Export) -> None:
    sandbox.limit_memory(asked.limits)
    with (folder / export.CHECKPOINT).open("rb") as checkpoint:
        pickle.load(checkpoint)


if __name__ == "__main__":
    export._export = _read_anything
    export.main()
