"""`python -m agent.bench.article.process FOLDER IMGSZ MOST`: the reference manager, told by lines on its input.

Each line names a file in FOLDER; it is made the model in use, answers one frame, and the time of both goes out as one
line of JSON. What libraries print goes to stderr.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

_SEED: Final = 5


def main() -> None:
    """Serve until the input ends."""
    folder, imgsz, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    from agent.bench.article.manager import Manager  # noqa: PLC0415 - only once nothing can print into the answers

    manager = Manager(most, imgsz)
    frame = np.random.default_rng(_SEED).integers(0, 256, (imgsz, imgsz, 3), np.uint8)
    for line in sys.stdin:
        began_ns = time.monotonic_ns()
        manager.answer(folder / line.strip(), frame)
        answers.write(json.dumps({"ms": (time.monotonic_ns() - began_ns) / 1e6}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
