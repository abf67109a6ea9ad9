"""The proof refuses no honest model: five families in five sizes, untrained and trained, on blank and busy pictures.

The usual suite takes the smallest size of each; `-m soak` takes all. Trained means: all layers, for TRAINED steps on
rendered conveyor frames, which gives norms their statistics and turns most scores down; it is no finished detector.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray
from support import trained

from agent.inference import backends
from agent.inference.validation import drawn_pictures
from agent.inference.validation.golden import warm_up
from agent.messages.references import ModelVersion

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # torch's exporter and ultralytics warn of their own matters
    pytest.mark.timeout(900),  # torch on two busy cores
]

SIDE: Final = 160
CLASSES: Final = 2
FAMILIES: Final = ("yolov5", "yolov8", "yolo11", "yolo12", "yolo26")
TRAINED: Final = {"n": (12, 4), "s": (10, 4), "m": (8, 4), "l": (6, 2), "x": (6, 2)}
"""Steps, and frames a step, by size."""
RUNTIMES: Final = ("openvino", "onnxruntime")


NETWORKS: Final = [
    pytest.param(family, size, marks=[] if size == "n" else [pytest.mark.soak], id=family + size)
    for family in FAMILIES
    for size in TRAINED
]


@pytest.fixture(scope="session")
def pictures() -> list[NDArray[np.uint8]]:
    """Blank ones, drawn shapes, noise, and the conveyor."""
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    blank = [np.full((480, 640, 3), grey, np.uint8) for grey in (0, 114, 255)]
    return [*blank, *drawn_pictures.busy(), noise, *trained.conveyor_pictures(2)]


@pytest.mark.parametrize(("family", "size"), NETWORKS)
def test_an_honest_model_is_accepted(
    version: Callable[..., ModelVersion], pictures: list[NDArray[np.uint8]], tmp_path: Path, family: str, size: str
) -> None:
    pytest.importorskip("torch")
    torch = pytest.importorskip("agent.inference.backends.ultralytics").import_ultralytics(tmp_path)[0]
    network = trained.untrained(torch, family + size, CLASSES, tmp_path)
    accepted(trained.export(network, tmp_path, SIDE), version, pictures, "untrained")
    network = trained.untrained(torch, family + size, CLASSES, tmp_path)
    steps, frames = TRAINED[size]
    before, after = trained.train(torch, network, SIDE, steps, frames)
    print(f"{family}{size}: loss {before:.1f} to {after:.1f} in {steps} steps")  # noqa: T201 - to look at, with -s
    accepted(trained.export(network, tmp_path, SIDE), version, pictures, "trained")


def accepted(path: Path, version: Callable[..., ModelVersion], pictures: list[NDArray[np.uint8]], what: str) -> None:
    """Prove a file as a load does, and on more pictures, by each runtime."""
    for runtime in RUNTIMES:
        model = backends.load(version(path, backend=runtime), "cpu", path.parent)
        try:
            warm_up(model)
            found = [len(model.check_outputs(picture)) for picture in pictures]
        finally:
            model.close()
        print(f"{what}, {runtime}: accepted; objects {found}")  # noqa: T201 - to look at, with -s
    path.unlink()
