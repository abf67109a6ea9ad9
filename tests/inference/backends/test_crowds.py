"""A frame full of candidates takes hardly longer than an empty one, and is answered as plain suppression answers it.

`scripts/test tests/inference/backends/test_crowds.py -m soak -s` measures: whole frames (letterbox, inference,
decoding) of YOLOv5n at 640 pixels, one of 25,200 candidates and an empty one in turn; the median of the pairs' ratios.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from support import crowds

from agent.inference import backends
from agent.inference.backends import Model
from agent.inference.yolo.layouts import MAX_OBJECTS
from agent.messages.references import ModelVersion

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # torch's exporter warns of its own matters

PAIRS: Final = 40
WARM_UP: Final = 5
MOST: Final = 1.2
IOU: Final = 0.45
BRIGHT = np.full((crowds.SIDE, crowds.SIDE, 3), 255, np.uint8)
DARK = np.zeros_like(BRIGHT)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    ultralytics = pytest.importorskip("agent.inference.backends.ultralytics")
    folder = tmp_path_factory.mktemp("crowds")
    return crowds.write_network(ultralytics.import_ultralytics(folder)[0], folder / "v5n.onnx")


@pytest.fixture
def load(network: Path, version: Callable[..., ModelVersion], tmp_path: Path) -> Callable[[str, str], Model]:
    """Load the network that answers with a scene, by a runtime."""

    def tell_and_load(scene: str, backend: str) -> Model:
        path = crowds.tell(network, scene, tmp_path / "v5n.onnx")
        return backends.load(version(path, backend=backend, iou=IOU), "cpu", tmp_path)

    return tell_and_load


def took_s(model: Model, picture: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> float:
    began_s = time.perf_counter()
    model.infer(picture)
    return time.perf_counter() - began_s


@pytest.mark.soak
@pytest.mark.parametrize("scene", crowds.SCENES)
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_crowd_takes_hardly_longer_than_an_empty_frame(
    load: Callable[[str, str], Model], backend: str, scene: str
) -> None:
    model = load(scene, backend)
    for _ in range(WARM_UP):
        kept, none = len(model.infer(BRIGHT)), len(model.infer(DARK))
    assert kept > 0
    assert none == 0
    empty_s, full_s = [], []
    for pair in range(PAIRS):  # each comes first in half of the pairs
        first_s = took_s(model, BRIGHT if pair % 2 else DARK)
        second_s = took_s(model, DARK if pair % 2 else BRIGHT)
        full_s.append(first_s if pair % 2 else second_s)
        empty_s.append(second_s if pair % 2 else first_s)
    model.close()
    ratios = [full / empty for full, empty in zip(full_s, empty_s, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    empty_ms = statistics.median(empty_s) * 1000
    print(  # noqa: T201 - the figures that are asked for, with -s
        f"\n{backend}, {scene}: {middle:.3f} ({low:.3f} to {high:.3f}) of {empty_ms:.1f} ms; {kept} kept"
    )
    assert middle <= MOST


def test_a_crowd_is_answered_whole(load: Callable[[str, str], Model]) -> None:
    model = load("299 objects, one class", "openvino")
    assert (len(model.infer(BRIGHT)), len(model.infer(DARK))) == (MAX_OBJECTS - 1, 0)
    model.close()
