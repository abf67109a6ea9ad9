"""The same file and picture, through ultralytics on torch and through our backends: the same answer."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support.exported import LOUDER, QUIETER, awaken, letterboxed

from agent.demo.assets import Assets
from agent.files import file_sha256
from agent.inference import backends
from agent.inference.backends import Model, Objects, openvino
from agent.inference.backends.detector import Untyped, Waiting
from agent.inference.preparing.build_process import prepare
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # torch's exporter and ultralytics warn of their own matters
    pytest.mark.timeout(900),  # torch on two busy cores
]

VersionOf = Callable[..., ModelVersion]
Load = Callable[..., Model]
RAW_LIMIT = 1e-3
IMGSZ = 320
QUERIES = 300
PREPARED = "prepared"
ARCHITECTURES = ["yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "rtdetr-resnet50"]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def torch(cache_dir: Path) -> Untyped:
    """Torch, with ultralytics imported the way that the backend does it."""
    pytest.importorskip("torch")
    module = pytest.importorskip("agent.inference.backends.ultralytics")
    return module.import_ultralytics(cache_dir)[0]


# ---- raw outputs, random weights


@dataclass(frozen=True)
class Exported:
    """One architecture with random weights: as torch answered the picture, and as ONNX files."""

    raw: NDArray[np.float32]  # (1, 4 + classes, anchors), before any top-k; of RT-DETR (1, queries, 4 + classes)
    before_top_k: Path
    onnx: Path
    pt: Path


def export(torch: Untyped, name: str, folder: Path, picture: NDArray[np.uint8]) -> Exported:
    from ultralytics import RTDETR, YOLO  # noqa: PLC0415 - only after torch was imported safely

    torch.manual_seed(20)
    pt = folder / f"{name}-random.pt"  # a yolov5n.pt it would look for on the web, under another name
    is_query = name.startswith("rtdetr")
    fresh = RTDETR(f"{name}.yaml") if is_query else YOLO(f"{name}.yaml")
    tensor = letterboxed(torch, picture, IMGSZ, stretch=is_query)
    if not is_query:  # its decoder says something of a picture as it is
        awaken(torch, fresh.model, tensor, QUIETER if name == "yolov9t" else LOUDER)
    fresh.save(pt)
    exported = Path(YOLO(pt).export(format="onnx", imgsz=IMGSZ, simplify=False, opset=17, device="cpu"))
    kept = exported.rename(folder / f"{name}-whole.onnx")
    yolo = YOLO(pt)
    head = yolo.model.model[-1]
    if is_query:
        head.postprocess = lambda boxes, scores: torch.cat([boxes, scores], -1)
    elif head.end2end:
        head.postprocess = lambda rows: rows.permute(0, 2, 1)
    if is_query or head.end2end:
        opened = Path(yolo.export(format="onnx", imgsz=IMGSZ, simplify=False, opset=17, device="cpu"))
    else:  # there is no top-k in it
        opened = Path(shutil.copy(kept, exported))
    model = onnx.load(opened)
    for fact in model.metadata_props:
        if fact.key == "end2end":
            fact.value = "False"
        if fact.key == "head" and is_query:  # as exporters wrote it before they had a top-k for it
            fact.value = "None"
    onnx.save(model, opened)
    network = YOLO(pt).model.float().eval()
    if is_query or head.end2end:
        network.model[-1].postprocess = head.postprocess
    with torch.inference_mode():
        raw = network(tensor)[0].numpy()
    return Exported(raw, opened, kept, pt)


@pytest.fixture(scope="module")
def picture(walkway: Assets) -> NDArray[np.uint8]:
    return read(walkway.bus)


def read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exported(
    request: pytest.FixtureRequest, torch: Untyped, tmp_path_factory: pytest.TempPathFactory, picture: NDArray[np.uint8]
) -> Exported:
    return export(torch, request.param, tmp_path_factory.mktemp(request.param), picture)


@pytest.fixture
def load(version: VersionOf, cache_dir: Path) -> Iterator[Load]:
    """Load a file by backend and, for OpenVINO, precision; `entry` holds fields of its catalog entry.

    As precision, PREPARED has an artifact made of the file first, and loads that.
    """
    loaded: list[Model] = []

    def load_one(path: Path, backend: str, precision: str = "", **entry: object) -> Model:
        entry["unsafe"] = path.suffix == ".pt"
        mine = version(path, backend=backend, **entry)
        if precision == PREPARED:
            mine = version(path, backend=backend, sha256=file_sha256(path), **entry)
            outcome = prepare(Request(mine, "cpu", str(cache_dir)), print)
            assert outcome.result in {"prepared", "present"}, outcome
            loaded.append(backends.load(mine, "cpu", cache_dir))
        elif precision:
            loaded.append(openvino.load(mine, "cpu", cache_dir, precision=precision))
        else:
            loaded.append(backends.load(mine, "cpu", cache_dir))
        return loaded[-1]

    yield load_one
    for model in loaded:
        model.close()


def raw_of(model: Model, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    waiting = model.prepare(picture)
    assert isinstance(waiting, Waiting)
    return waiting.request.run()[0].astype(np.float32)


@pytest.mark.parametrize(
    ("backend", "precision"), [("openvino", "f32"), ("onnxruntime", ""), ("onnxruntime", PREPARED)]
)
def test_raw_outputs_are_torchs(
    exported: Exported, load: Load, picture: NDArray[np.uint8], backend: str, precision: str
) -> None:
    model = load(exported.before_top_k, backend, precision)
    raw, swapped = raw_of(model, picture).copy(), raw_of(model, picture[..., ::-1].copy())
    for part in (slice(0, 4), slice(4, None)):  # boxes and scores by themselves: their scales differ
        want, got, blue = (_part(answer, part) for answer in (exported.raw, raw, swapped))
        error, change = (np.abs(answer - want).max() / np.abs(want).max() for answer in (got, blue))
        print(f"{exported.pt.stem} {backend} {part}: {error:.1e}, colours swapped {change:.1e}")  # noqa: T201 - with -s
        assert error <= RAW_LIMIT
        assert change > 10 * RAW_LIMIT, "the network says nothing of the picture"


def _part(raw: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
    """Take boxes or scores; queries come in no order that holds, so each number is compared by its rank."""
    return np.sort(raw[..., part], axis=1) if raw.shape[1] == QUERIES else raw[:, part]


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("openvino", ""), ("openvino", PREPARED), ("onnxruntime", ""), ("onnxruntime", PREPARED), ("ultralytics", "")],
)
def test_whole_models_are_recognised(
    exported: Exported, load: Load, picture: NDArray[np.uint8], backend: str, precision: str
) -> None:
    if backend == "ultralytics":
        model = load(exported.pt, backend, confidence=1e-6, imgsz=IMGSZ)
    else:
        model = load(exported.onnx, backend, precision, confidence=1e-6)
    objects = model.check_outputs(picture)
    assert len(model.names) == 80
    assert model.imgsz == (IMGSZ, IMGSZ)
    assert 0 < len(objects) <= 300


@pytest.mark.parametrize("exported", ["rtdetr-resnet50"], indirect=True)
@pytest.mark.parametrize(("backend", "precision"), [("openvino", "f32"), ("onnxruntime", "")])
def test_a_transformer_finds_what_predict_finds(
    exported: Exported, load: Load, walkway: Assets, backend: str, precision: str
) -> None:
    from ultralytics import RTDETR  # noqa: PLC0415 - only after torch was imported safely

    theirs, model = RTDETR(exported.pt), load(exported.onnx, backend, precision, confidence=1e-6)
    found = matched = 0
    furthest = 0.0
    for path in (walkway.bus, walkway.zidane):
        picture = read(path)
        predicted = theirs.predict(picture, conf=1e-6, imgsz=IMGSZ, device="cpu", verbose=False)[0].boxes
        height, width = picture.shape[:2]
        boxes = np.clip(predicted.xyxy.numpy(), 0, (width, height, width, height))  # it lets them reach beyond
        ours = model.infer(picture)
        found += max(len(boxes), len(ours))
        apart = np.abs(ours.scores[:, None] - predicted.conf.numpy())
        corners = np.abs(ours.boxes[:, None] - boxes).max(axis=2)  # a box beyond the picture is cut to an edge
        is_same = (apart <= 0.02) & (ours.classes[:, None] == predicted.cls.numpy())
        is_same &= (overlaps(ours.boxes, boxes) >= 0.9) | (corners <= 0.5)
        matched += min(np.count_nonzero(is_same.any(axis=axis)) for axis in (0, 1))
        nearest = np.where(is_same, apart, np.inf).min(axis=1)
        furthest = max(furthest, float(nearest[np.isfinite(nearest)].max()))
    print(f"rtdetr {backend}: {matched} of {found} matched, scores within {furthest:.1e}")  # noqa: T201 - with -s
    assert found >= QUERIES
    assert matched >= 0.99 * found


# ---- real weights, real pictures


@pytest.fixture(scope="module")
def predicted(torch: Untyped, walkway: Assets) -> dict[str, Objects]:
    """Predict by `YOLO.predict` on the .pt, letterboxed to a square as our input is."""
    assert torch.__version__
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
    pytest.param(("openvino", ""), 0.03, id="openvino"),
    pytest.param(("openvino", "f32"), 0.02, id="openvino-f32"),
    pytest.param(("openvino", "bf16"), 0.03, id="openvino-bf16"),  # float32 where the processor has no bf16
    pytest.param(("openvino", PREPARED), 0.03, id="openvino-prepared"),
    pytest.param(("onnxruntime", ""), 0.02, id="onnxruntime"),
    pytest.param(("onnxruntime", PREPARED), 0.02, id="onnxruntime-prepared"),
    pytest.param(("ultralytics", ""), 0.02, id="ultralytics"),
    pytest.param(("auto", PREPARED), 0.03, id="checkpoint-prepared"),
]


@pytest.mark.parametrize(("run", "score_limit"), RUNS)
def test_real_pictures_are_answered_as_ultralytics_does(
    walkway: Assets, predicted: dict[str, Objects], load: Load, run: tuple[str, str], score_limit: float
) -> None:
    model = load(walkway.fall_pt if run[0] in {"ultralytics", "auto"} else walkway.fall_onnx, *run)
    assert model.names == ("Normal", "Fall")
    for path, count in ((walkway.bus, 4), (walkway.zidane, 2)):
        ours, theirs = model.infer(read(path)), predicted[path.name]
        assert len(ours) == len(theirs) == count
        shares = overlaps(ours.boxes, theirs.boxes)
        partners = shares.argmax(axis=1)
        assert sorted(partners) == list(range(count))
        assert shares.max(axis=1).min() >= 0.9
        assert ours.classes.tolist() == theirs.classes[partners].tolist()
        difference = np.abs(ours.scores - theirs.scores[partners]).max()
        figures = f"IoU {shares.max(axis=1).min():.5f}, score {difference:.1e}"
        print(f"{path.name} {run}: {figures}")  # noqa: T201 - figures to look at, with -s
        assert difference <= score_limit
