"""Allocations of one frame: hardly any, because canvas, input and output are kept."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.inference import backends
from agent.inference.backends import Model
from agent.messages.references import ModelVersion

WriteTiny = Callable[..., Path]
VersionOf = Callable[..., ModelVersion]

SIDE = 640
CANVAS_BYTES = SIDE * SIDE * 3
FRAMES = 8


@pytest.fixture(params=["openvino", "onnxruntime"])
def model(request: pytest.FixtureRequest, tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> Model:
    pytest.importorskip(f"agent.inference.backends.{request.param}")
    path = tiny_model(tmp_path / "tiny.onnx", imgsz=SIDE)
    return backends.load(version(path, backend=request.param), "cpu", tmp_path)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (720, 1280)], ids=["as it is", "scaled"])
def test_no_frame_allocates_what_could_be_kept(model: Model, size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    for _ in range(FRAMES):  # each request's first, and caches
        model.infer(picture)
    tracemalloc.start()
    try:
        for _ in range(FRAMES):
            model.infer(picture)
        kept_bytes, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < CANVAS_BYTES // 4, "neither a picture nor a canvas came into being"
    assert kept_bytes < CANVAS_BYTES // 16, "nor did anything stay"
    model.close()
