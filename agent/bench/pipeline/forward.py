"""Subprocess that runs the bare runtime on an artifact that the agent prepared.

Started as `python -m agent.bench.pipeline.forward CACHE_DIR KEY`. A line `HINT REQUESTS SECONDS` on stdin infers for so
long with OpenVINO's settings for latency or throughput; `paced FPS SECONDS` infers one picture at a time at that rate.
It computes in the artifact's precision, and says which one that is. Each answer is one line of JSON.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from agent.bench.plant.pictures import pictures
from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends.openvino_graph import core, ov, precision_of

_WARM_UP: Final = 3


class Forward:
    """An artifact compiled with each of OpenVINO's performance hints; all requests infer the same picture."""

    def __init__(self, cache_dir: Path, key: str) -> None:
        opened = ArtifactStore(cache_dir).open(key)
        assert opened is not None, f"there is no artifact {key} in {cache_dir}"
        self._artifact, self._mapped = opened.artifact, opened.mapped
        self._compiled = {hint: self._import(hint) for hint in ("LATENCY", "THROUGHPUT")}

    def frames_per_s(self, hint: str, requests: int, seconds: float) -> dict[str, float | str]:
        """Infer with `requests` in flight for `seconds`; return rate and precision."""
        queue = ov.AsyncInferQueue(self._compiled[hint], requests)
        for request in queue:
            request.set_input_tensor(ov.Tensor(self._picture()))
        for _ in range(_WARM_UP * requests):
            queue.start_async()
        queue.wait_all()
        began_s, done = time.monotonic(), 0
        while time.monotonic() - began_s < seconds:
            queue.start_async()
            done += 1
        queue.wait_all()
        rate = done / (time.monotonic() - began_s)
        return {"frames_per_s": rate, "precision": precision_of(self._compiled[hint])}

    def paced(self, fps: float, seconds: float) -> dict[str, list[float]]:
        """Infer a picture each 1/fps seconds; return the times in ms."""
        request = self._compiled["LATENCY"].create_infer_request()
        request.set_input_tensor(ov.Tensor(self._picture()))
        for _ in range(_WARM_UP):
            request.infer()
        took_ms: list[float] = []
        due_s = time.monotonic()
        for _ in range(int(fps * seconds)):
            time.sleep(max(0.0, due_s - time.monotonic()))
            due_s += 1 / fps
            began_ns = time.monotonic_ns()
            request.start_async()
            request.wait()
            took_ms.append((time.monotonic_ns() - began_ns) / 1e6)
        return {"took_ms": took_ms}

    def _import(self, hint: str) -> "ov.CompiledModel":
        tensor = ov.Tensor(self._mapped.array, shared_memory=True)
        precision = self._artifact.profile.precision
        chosen = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        return core().import_model(tensor, "CPU", {"PERFORMANCE_HINT": hint, **chosen})

    def _picture(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        return pictures(self._artifact.imgsz[0])[0][np.newaxis]


def main() -> None:
    """Serve commands until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what the runtime prints is no answer
    forward = Forward(Path(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        what, number, seconds = line.split()
        if what == "paced":
            answer: dict[str, object] = dict(forward.paced(float(number), float(seconds)))
        else:
            answer = dict(forward.frames_per_s(what, int(number), float(seconds)))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
