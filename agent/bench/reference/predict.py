"""Subprocess that runs `YOLO.predict` as a user calls it, on a picture in memory.

Started as `python -m agent.bench.reference.predict FILE IMGSZ`. Each line of stdin is a number of seconds: predicts for
so long, and answers with one line of JSON.
"""

import json
import os
import sys
import time
from typing import Final

import numpy as np

# before the imports below
os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}

import torch
from ultralytics import YOLO

_SEED: Final = 5
_WARM_UP: Final = 3


def main() -> None:
    """Serve commands until the input ends; settings of `predict` keep their defaults, so `rect` is on."""
    path, imgsz = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    model = YOLO(path, task="detect")
    frame = np.random.default_rng(_SEED).integers(0, 256, (imgsz, imgsz, 3), np.uint8)
    for _ in range(_WARM_UP):
        model.predict(frame, imgsz=imgsz, verbose=False)
    for line in sys.stdin:
        began_s, done = time.monotonic(), 0
        while time.monotonic() - began_s < float(line):
            model.predict(frame, imgsz=imgsz, verbose=False)
            done += 1
        rate = done / (time.monotonic() - began_s)
        answers.write(json.dumps({"frames_per_s": rate, "torch_threads": torch.get_num_threads()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
