"""The same file and picture, through ultralytics on torch and through our backends: the same answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from agent.demo.material import Material
from agent.inference import backends
from agent.inference.backends import Model, Objects, openvino
from agent.inference.backends.detector import Waiting
from agent.messages.references import ModelVersion

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # torch's exporter and ultralytics warn of their own matters
    pytest.mark.timeout(900),  # torch on two busy cores
]

VersionOf = Callable[..., ModelVersion]
RAW_LIMIT = 1e-3
IMGSZ = 320


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def torch(cache_dir: Path) -> Any:
    """Torch, with ultralytics imported the way that the backend does it."""
    pytest.importorskip("torch")
    module = pytest.importorskip("agent.inference.backends.ultralytics")
    return module.import_ultralytics(cache_dir)[0]


# ---- raw outputs, random weights


@dataclass(frozen=True)
class Exported:
    """One architecture with random weights: as torch answered the picture, and as ONNX files."""

    raw: NDArray[np.float32]  # (1, 4 + classes, anchors), before any top-k
    before_top_k: Path
    onnx: Path
    pt: Path


def letterboxed(torch: Any, picture: NDArray[np.uint8]) -> Any:
    from ultralytics.data.augment import LetterBox  # noqa: PLC0415 - only after torch was imported safely

    pixels = LetterBox((IMGSZ, IMGSZ), auto=False)(image=picture)
    return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)))[None].float() / 255


def export(torch: Any, name: str, folder: Path, picture: NDArray[np.uint8]) -> Exported:
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely

    torch.manual_seed(20)
    pt = folder / f"{name}.pt"
    YOLO(f"{name}.yaml").save(pt)
    exported = Path(YOLO(pt).export(format="onnx", imgsz=IMGSZ, simplify=False, opset=17, device="cpu"))
    kept = exported.rename(folder / f"{name}-whole.onnx")
    yolo = YOLO(pt)
    head = yolo.model.model[-1]
    if head.end2end:
        head.postprocess = lambda rows: rows.permute(0, 2, 1)
    opened = Path(yolo.export(format="onnx", imgsz=IMGSZ, simplify=False, opset=17, device="cpu"))
    model = onnx.load(opened)
    for fact in model.metadata_props:
        if fact.key == "end2end":
            fact.value = "False"
    onnx.save(model, opened)
    network = YOLO(pt).model.float().eval()
    if head.end2end:
        network.model[-1].postprocess = head.postprocess
    with torch.inference_mode():
        raw = network(letterboxed(torch, picture))[0].numpy()
    return Exported(raw, opened, kept, pt)


@pytest.fixture(scope="module")
def picture(walkway: Material) -> NDArray[np.uint8]:
    return read(walkway.bus)


def read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module", params=["yolov8n", "yolo11n", "yolo26n"])
def exported(
    request: pytest.FixtureRequest, torch: Any, tmp_path_factory: pytest.TempPathFactory, picture: NDArray[np.uint8]
) -> Exported:
    return export(torch, request.param, tmp_path_factory.mktemp(request.param), picture)


def load(entry: ModelVersion, cache_dir: Path, precision: str = "") -> Model:
    if precision:
        return openvino.load(entry, "cpu", cache_dir, precision=precision)
    return backends.load(entry, "cpu", cache_dir)


def raw_of(model: Model, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    waiting = model.prepare(picture)
    assert isinstance(waiting, Waiting)
    return waiting.request.run().astype(np.float32)


@pytest.mark.parametrize(("backend", "precision"), [("openvino", "f32"), ("onnxruntime", "")])
def test_raw_outputs_are_torchs(
    exported: Exported,
    version: VersionOf,
    cache_dir: Path,
    picture: NDArray[np.uint8],
    backend: str,
    precision: str,
) -> None:
    model = load(version(exported.before_top_k, backend=backend), cache_dir, precision)
    raw = raw_of(model, picture)
    model.close()
    for part in (slice(0, 4), slice(4, None)):  # boxes and scores by themselves: their scales differ
        want, got = exported.raw[:, part], raw[:, part]
        error = np.abs(got - want).max() / np.abs(want).max()
        print(f"{exported.pt.stem} {backend} {part}: {error:.2e}")  # noqa: T201 - a figure to look at, with -s
        assert error <= RAW_LIMIT


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "ultralytics"])
def test_whole_models_are_recognised(
    torch: Any, exported: Exported, version: VersionOf, cache_dir: Path, picture: NDArray[np.uint8], backend: str
) -> None:
    del torch
    path = exported.pt if backend == "ultralytics" else exported.onnx
    imgsz = IMGSZ if backend == "ultralytics" else None
    model = backends.load(version(path, backend=backend, confidence=1e-6, imgsz=imgsz), "cpu", cache_dir)
    objects = model.check_outputs(picture)
    assert len(model.names) == 80
    assert model.imgsz == (IMGSZ, IMGSZ)
    assert 0 < len(objects) <= 300
    model.close()


# ---- real weights, real pictures


@pytest.fixture(scope="module")
def predicted(torch: Any, walkway: Material) -> dict[str, Objects]:
    """What `YOLO.predict` finds on the .pt, letterboxed to a square as our input is."""
    del torch
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely

    yolo = YOLO(walkway.fall_pt)
    found = {}
    for path in (walkway.bus, walkway.zidane):
        boxes = yolo.predict(path, conf=0.25, iou=0.7, imgsz=640, rect=False, device="cpu", verbose=False)[0].boxes
        found[path.name] = Objects(boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(np.int32))
    return found


def overlaps(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return IoU of each of our boxes (n, 4) with each of theirs (m, 4)."""
    left_top = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    right_bottom = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    common = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (ours, theirs)]
    shares: NDArray[np.float32] = common / (areas[0][:, None] + areas[1][None] - common)
    return shares


RUNS = [
    pytest.param("openvino", "", 0.03, id="openvino"),
    pytest.param("openvino", "f32", 0.02, id="openvino-f32"),
    pytest.param("openvino", "bf16", 0.03, id="openvino-bf16"),
    pytest.param("onnxruntime", "", 0.02, id="onnxruntime"),
    pytest.param("ultralytics", "", 0.02, id="ultralytics"),
]


@pytest.mark.parametrize(("backend", "precision", "score_limit"), RUNS)
def test_real_pictures_are_answered_as_ultralytics_does(
    walkway: Material,
    predicted: dict[str, Objects],
    version: VersionOf,
    cache_dir: Path,
    backend: str,
    precision: str,
    score_limit: float,
) -> None:
    path = walkway.fall_pt if backend == "ultralytics" else walkway.fall_onnx
    model = load(version(path, backend=backend), cache_dir, precision)
    assert model.names == ("Normal", "Fall")
    for name, count in (("bus.jpg", 4), ("zidane.jpg", 2)):
        ours, theirs = model.infer(read(walkway.bus.parent / name)), predicted[name]
        assert len(ours) == len(theirs) == count
        shares = overlaps(ours.boxes, theirs.boxes)
        partners = shares.argmax(axis=1)
        assert sorted(partners) == list(range(count))
        assert shares.max(axis=1).min() >= 0.9
        assert ours.classes.tolist() == theirs.classes[partners].tolist()
        difference = np.abs(ours.scores - theirs.scores[partners]).max()
        print(f"{name} {backend} {precision}: IoU {shares.max(axis=1).min():.4f}, score {difference:.5f}")  # noqa: T201 - figures to look at, with -s
        assert difference <= score_limit
    model.close()
