"""The processor's work for one frame of 1080p beside the GPU: letterbox, enqueue, wait, and decoding."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from support.fake_gpu.installed import FakeGpu
from support.seeing_models import pictures

from agent.inference import backends
from agent.inference.artifacts.artifact_store import Opened
from agent.messages.references import ModelVersion

FRAMES = 30


def test_the_processors_part_of_a_frame_is_told(
    one_gpu: FakeGpu,
    seeing: Callable[..., ModelVersion],
    build: Callable[..., Opened],
    record_property: Callable[[str, object], None],
) -> None:
    """The figure is for docs/benchmarks.md: this suite asks for no speed, but for what a frame costs beyond the GPU.

    The fake computes on the processor; what it computes is taken off. What the head leaves is 92 KB, not 2.8 MB.
    """
    version = seeing("wide", imgsz=640, classes=80, hidden=8)
    engine = backends.restore(version, build(version), "tensorrt:0", Path())
    frame = pictures(1, (1080, 1920))[0]
    took_ms = []
    for _ in range(FRAMES):
        computed_s, began_s = one_gpu.cuda.gpu_s, time.perf_counter()
        engine.infer(frame)
        took_ms.append((time.perf_counter() - began_s - (one_gpu.cuda.gpu_s - computed_s)) * 1000)
    prepared = engine.prepare(frame)
    assert prepared.request._answer.nbytes == 6 * 3840 * 4  # type: ignore[attr-defined]
    record_property("cpu_ms", float(np.median(took_ms)))
    sys.stdout.write(f"processor's part of a frame: median {np.median(took_ms):.2f} ms, least {min(took_ms):.2f} ms\n")
    engine.close()
