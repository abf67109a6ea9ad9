"""Exports by ultralytics, in many ways, are answered as ultralytics answers them, or refused in words.

The usual suite takes one export of each kind; `-m soak` takes all families with all options.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray
from support.exported import Export, Picture, Untyped, as_ir, make, save_random, stripped, without

from agent.inference import backends
from agent.inference.backends import Model, Objects, openvino
from agent.inference.backends.openvino_graph import ov
from agent.inference.validation import drawn_pictures
from agent.inference.validation.golden import warm_up
from agent.inference.validation.parity import compare
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # torch's exporter and ultralytics warn of their own matters
    pytest.mark.timeout(900),  # torch on two busy cores
]

VersionOf = Callable[..., ModelVersion]
Options = tuple[tuple[str, object], ...]

CONFIDENCE: Final = 0.3
IOU: Final = 0.7
ALIKE: Final = 0.97
"""Share of the boxes; not all, because networks that were never trained hold many a rival of nearly its own score."""
THIN_PIXELS: Final = 4.0

IR, NMS, END_TO_END = ("format", "openvino"), ("nms", True), ("nms", False)
DYNAMIC, HALF, OPSET, CONF = ("dynamic", True), ("quantize", 16), ("opset", 13), ("conf", CONFIDENCE)
ONE_TO_MANY: Final = ("yolov5n", "yolov8n", "yolov9t", "yolo11n", "yolo12n")
ONE_TO_ONE: Final = ("yolov10n", "yolo26n")
TRANSFORMERS: Final = ("rtdetr-l",)

SHORT: Final = [
    Export("yolo11n", 2, 96, ()),
    Export("yolov8n", 2, 96, (NMS, CONF)),
    Export("yolo26n", 1, 96, (END_TO_END,)),
    Export("yolo11n", 2, 96, (IR, DYNAMIC)),
    Export("rtdetr-l", 2, 160, ()),
]


def every() -> Iterator[Export]:
    """Every family with every option that it takes."""
    for network in (*ONE_TO_MANY, *ONE_TO_ONE):
        for side, classes in ((96, 2), (160, 80)):
            yield Export(network, classes, side, ())
            yield Export(network, classes, side, (NMS, CONF))
            yield Export(network, classes, side, (IR,))
        yield Export(network, 1, 96, (NMS, CONF))
        yield Export(network, 1, 64, (OPSET,))
        plain: tuple[Options, ...] = (
            (DYNAMIC,),
            (HALF,),
            (NMS, CONF, DYNAMIC),
            (IR, NMS, CONF),
            (IR, DYNAMIC),
            (IR, HALF),
        )
        for options in plain:
            yield Export(network, 2, 96, options)
    for network in ONE_TO_ONE:
        ends: tuple[Options, ...] = ((END_TO_END,), (END_TO_END, DYNAMIC), (END_TO_END, HALF), (END_TO_END, IR))
        for more in ends:
            for classes in (1, 2, 80):
                yield Export(network, classes, 96, more)
    for network in TRANSFORMERS:
        for classes in (1, 2, 80):
            yield Export(network, classes, 160, ())
            yield Export(network, classes, 160, (IR,))
        yield Export(network, 2, 160, (HALF,))


EXPORTS: Final = [
    *(pytest.param(export, id=export.name) for export in SHORT),
    *(pytest.param(export, id=export.name, marks=pytest.mark.soak) for export in every() if export not in SHORT),
]


@pytest.fixture(scope="session")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Untyped:
    """Torch, with ultralytics imported the way that the backend does it."""
    pytest.importorskip("torch")
    module = pytest.importorskip("agent.inference.backends.ultralytics")
    return module.import_ultralytics(tmp_path_factory.mktemp("settings"))[0]


@pytest.fixture(scope="session")
def picture() -> Picture:
    return next(drawn_pictures.busy())


@pytest.fixture(scope="session")
def exported(
    torch: Untyped, picture: Picture, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Export], tuple[Path, Objects]]:
    """Make an export once, with what ultralytics finds by it."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def checkpoint(network: str, classes: int, side: int) -> Path:
        export = Export(network, classes, side, ())
        return save_random(torch, export, folder / export.name, picture)

    @cache
    def made(export: Export) -> tuple[Path, Objects]:
        path = make(export, checkpoint(export.network, export.classes, export.side))
        return path, predicted(export, path, picture)

    return made


def predicted(export: Export, path: Path, picture: Picture) -> Objects:
    """Return what ultralytics finds in `picture` by the exported file, in float32 where OpenVINO computes."""
    from ultralytics import RTDETR, YOLO  # noqa: PLC0415 - only after torch was imported safely

    file = path.parent if path.suffix == ".xml" else path
    model = RTDETR(file) if export.is_query else YOLO(file, task="detect")
    asked = {"conf": CONFIDENCE, "iou": IOU, "imgsz": export.side, "rect": False, "device": "cpu", "verbose": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ov, "Core", partial(core_in_float32, ov.Core))
        boxes = model.predict(picture, **asked)[0].boxes
    return Objects(boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(np.int32))


def core_in_float32(make_core: Callable[[], Untyped]) -> Untyped:
    """Return a runtime that takes no bfloat16 where the processor has it, as ultralytics leaves the choice to it."""
    core = make_core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return core


@pytest.fixture(params=["openvino", "onnxruntime", "ultralytics"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def load(backend: str, version: VersionOf, tmp_path: Path) -> Iterator[Callable[..., Model]]:
    """Load a file and prove it, in float32; the other runtime reads no IR."""
    loaded: list[Model] = []

    def load_and_prove(path: Path, **entry: object) -> Model:
        mine = version(path, backend=backend, confidence=CONFIDENCE, iou=IOU, **entry)
        if backend == "openvino":
            loaded.append(openvino.load(mine, "cpu", tmp_path, precision="f32"))
        else:
            loaded.append(backends.load(mine, "cpu", tmp_path))
        warm_up(loaded[-1])
        for picture in drawn_pictures.busy():
            loaded[-1].check_outputs(picture)
        return loaded[-1]

    yield load_and_prove
    for model in loaded:
        model.close()


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_is_answered_as_ultralytics_does(
    exported: Callable[[Export], tuple[Path, Objects]],
    load: Callable[..., Model],
    picture: Picture,
    backend: str,
    export: Export,
) -> None:
    path, right = exported(export)
    if path.suffix == ".xml" and backend != "openvino":
        pytest.skip("an IR is OpenVINO's alone")
    if HALF in export.options and path.suffix == ".onnx" and backend == "openvino":
        right = predicted(export, as_ir(path), picture)  # because ONNX Runtime adds up in float16
    # a network that was never trained may leave the range of float16
    answer = answer_or_refusal(partial(load, path), picture) if HALF in export.options else load(path).infer(picture)
    require_alike(answer, right)
    if path.suffix == ".xml" or backend == "ultralytics":  # which takes a file without metadata for what it likes
        return
    names = tuple(f"class{index}" for index in range(export.classes))
    for left in (stripped(path), without(path, ("description", "head", "end2end", "args", "version"))):
        require_alike(answer_or_refusal(partial(load, left, classes=names, imgsz=export.side), picture), right)


def answer_or_refusal(load: Callable[[], Model], picture: Picture) -> Objects | None:
    """Answer a file that says little; None where it is refused in words."""
    try:
        return load().infer(picture)
    except ModelError as error:
        if error.reason not in {"unclear_layout", "implausible", "proof_failed"}:
            raise
        print(error)  # noqa: T201 - to look at, with -s
        return None


def require_alike(found: Objects | None, right: Objects) -> None:
    """Hold an answer to what ultralytics finds, box by box; None was refused in words."""
    assert len(right), "ultralytics finds nothing by it: it shows nothing"
    if found is None:
        print("refused")  # noqa: T201 - figures to look at, with -s
        return
    alike = compare([with_area(right)], [with_area(found)], CONFIDENCE)
    print(alike, f"{len(right)} expected", sep="; ")  # noqa: T201 - as above
    assert alike.matched >= ALIKE * alike.boxes, f"{alike}; {boxes(found)}, not {boxes(right)}"


def with_area(objects: Objects) -> Objects:
    """Widen thin boxes about their centres, because those beyond the picture are clipped to lines without an area."""
    centres = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
    halves = np.maximum(objects.boxes[:, 2:] - objects.boxes[:, :2], np.float32(THIN_PIXELS)) / 2
    widened = np.concatenate((centres - halves, centres + halves), axis=1)
    return Objects(widened, objects.scores, objects.classes)


def boxes(objects: Objects) -> NDArray[np.float32]:
    first: NDArray[np.float32] = objects.boxes[:3].round(1)
    return first
