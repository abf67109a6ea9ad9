"""Subprocess that runs the reference manager.

Started as `python -m agent.bench.reference.manager_process FOLDER IMGSZ MOST`. Each line of stdin names a file in
FOLDER: activates it, answers one frame, and writes the time of both as one line of JSON. Libraries print to stderr.
"""

import json
import os
import sys
import time
from pathlib import Path

from agent.bench.plant.pictures import pictures


def main() -> None:
    """Serve commands until the input ends."""
    folder, imgsz, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    from agent.bench.reference.manager import Manager  # noqa: PLC0415 - only once nothing can print into the answers

    manager = Manager(most, imgsz)
    frame = pictures(imgsz)[0]
    for line in sys.stdin:
        began_ns = time.monotonic_ns()
        manager.answer(folder / line.strip(), frame)
        answers.write(json.dumps({"ms": (time.monotonic_ns() - began_ns) / 1e6}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
