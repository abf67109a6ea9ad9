"""Subprocess that runs `YOLO.predict` as a user calls it, on pictures in memory, one after another.

Started as `python -m agent.bench.reference.predict FILE IMGSZ PRECISION TASK`. Each line of stdin is a number of
seconds: predicts for so long, and answers with one line of JSON. `predict` has no option for the precision, so the
runtime is told: torch by autocast, OpenVINO by a hint as it compiles. The answer holds the precision that the runtime
reports.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from typing import Any, Final

# before the imports below
os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}

import torch
from ultralytics import YOLO

from agent.bench.plant.pictures import pictures
from agent.inference.backends.openvino_graph import ov, precision_of

_WARM_UP: Final = 3
_OF_TORCH: Final = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def _told_openvino(precision: str) -> Callable[[], str]:
    """Have every model compiled in a precision; return what tells the precision of the last one."""
    compiled: list[Any] = []
    compile_model = ov.Core.compile_model

    def compile_so(core: Any, model: Any, device_name: str, config: dict[str, str]) -> Any:  # noqa: ANN401 - it has no types
        compiled.append(compile_model(core, model, device_name, {**config, "INFERENCE_PRECISION_HINT": precision}))
        return compiled[-1]

    ov.Core.compile_model = compile_so
    return lambda: precision_of(compiled[-1])


def _told_torch(model: Any) -> Callable[[], str]:  # noqa: ANN401 - as above
    """Watch a convolution; return what tells the precision of its first answer."""
    seen: list[str] = []
    layer = next(one for one in model.model.modules() if isinstance(one, torch.nn.Conv2d))
    layer.register_forward_hook(lambda _, __, answer: seen.append(_OF_TORCH[answer.dtype]) if not seen else None)
    return lambda: seen[-1]


def _computing(precision: str) -> AbstractContextManager[object]:
    return nullcontext() if precision == "f32" else torch.autocast("cpu", torch.bfloat16)


def main() -> None:
    """Serve commands until the input ends; settings of `predict` keep their defaults, so `rect` is on."""
    path, imgsz, precision, task = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    model = YOLO(path, task=task)
    is_torch = path.endswith(".pt")
    told = _told_torch(model) if is_torch else _told_openvino(precision)
    frames = cycle(pictures(imgsz, task))
    with _computing(precision) if is_torch else nullcontext():
        for _ in range(_WARM_UP):
            model.predict(next(frames), imgsz=imgsz, verbose=False)
        for line in sys.stdin:
            began_s, done = time.monotonic(), 0
            while time.monotonic() - began_s < float(line):
                model.predict(next(frames), imgsz=imgsz, verbose=False)
                done += 1
            rate = done / (time.monotonic() - began_s)
            answer = {"frames_per_s": rate, "precision": told(), "torch_threads": torch.get_num_threads()}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
