"""A real model on real pictures, without torch."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.demo.assets import Assets
from agent.inference import backends
from agent.messages.references import ModelVersion

VersionOf = Callable[..., ModelVersion]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_people_are_found(walkway: Assets, version: VersionOf, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(f"agent.inference.backends.{backend}")
    model = backends.load(version(walkway.fall_onnx, backend=backend), "auto", tmp_path)
    for path, count in ((walkway.bus, 4), (walkway.zidane, 2)):
        picture = cv2.imread(str(path))
        assert picture is not None
        objects = model.infer(np.asarray(picture, np.uint8))
        assert [model.names[index] for index in objects.classes] == ["Normal"] * count
        assert (objects.boxes >= 0).all()
        assert (objects.boxes[:, [2, 3]] <= [picture.shape[1], picture.shape[0]]).all()
        assert (np.diff(objects.scores) <= 0).all()
    model.close()
