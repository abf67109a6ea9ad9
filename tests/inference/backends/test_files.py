"""Files as they come from many exporters, on both runtimes: each is answered rightly, or refused in words."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import answering_models as files

from agent.inference import backends
from agent.inference.backends import Model
from agent.inference.validation.golden import warm_up
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

VersionOf = Callable[..., ModelVersion]
Open = Callable[..., Model]
Entry = dict[str, object]

BRIGHT = np.full((*files.FRAME, 3), 255, np.uint8)
DARK = np.zeros((*files.FRAME, 3), np.uint8)
OK_NG = files.by_ultralytics(("ok", "ng"))
CAP: Entry = {"classes": ("cap",)}
NMS = {"args": {"batch": 1, "nms": True}, "end2end": False}
CASES = Path(__file__).parents[4] / "shared" / "cases" / "models"


@pytest.fixture(params=["openvino", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(f"agent.inference.backends.{name}")  # never the bare runtime: it would send usage events
    return name


@pytest.fixture
def load(backend: str, version: VersionOf, tmp_path: Path) -> Iterator[Open]:
    """Load a file and prove it, as a swap does; `entry` holds fields of its catalog entry."""
    loaded: list[Model] = []

    def load_and_prove(path: Path, **entry: object) -> Model:
        loaded.append(backends.load(version(path, backend=backend, **entry), "cpu", tmp_path))
        warm_up(loaded[-1])
        return loaded[-1]

    yield load_and_prove
    for model in loaded:
        model.close()


def require_box(model: Model, box: files.Box, score: float = 0.9) -> None:
    objects = model.infer(BRIGHT)
    np.testing.assert_allclose(objects.boxes, [box], atol=0.5)
    assert objects.scores.tolist() == pytest.approx([score], abs=0.01)
    assert objects.classes.tolist() == [0]


AB = ("a", "b")
ABC = ("a", "b", "c")
RIGHT, STRETCHED = files.RIGHT, files.STRETCHED
SERVED: dict[str, tuple[files.Array, dict[str, str] | None, Entry, files.Box]] = {
    "v8": (files.columns(2), OK_NG, {}, RIGHT),
    "v8, silent": (files.columns(1), None, CAP, RIGHT),
    "nms in the graph": (files.rows(), files.by_ultralytics(AB, **NMS), {}, RIGHT),
    "v10 of 8.3": (files.rows(), files.by_ultralytics(AB, description="Ultralytics YOLOv10n model "), {}, RIGHT),
    "26": (files.rows(), files.by_ultralytics(AB, end2end=True), {}, RIGHT),
    "rt-detr of 8.3": (
        files.queries(2),
        files.by_ultralytics(AB, description="Ultralytics rtdetr-l model ", version="8.3.1"),
        {},
        STRETCHED,
    ),
    "rt-detr of 8.4.60": (
        files.query_rows(),
        files.by_ultralytics(ABC, description="Ultralytics rtdetr-l model ", end2end=False),
        {},
        STRETCHED,
    ),
    "rt-detr of today": (
        files.query_rows(),
        files.by_ultralytics(AB, head="RTDETRDecoder", end2end=False),
        {},
        STRETCHED,
    ),
    "v5": (files.anchors(1), {"names": "{0: 'cap'}", "stride": "32"}, {}, RIGHT),
    "deepstream, said": (files.rows(count=files.CELLS), None, CAP | {"layout": "rows"}, RIGHT),
    "rt-detr, said": (files.queries(2), None, {"classes": AB, "layout": "rtdetr"}, STRETCHED),
    "rt-detr rows, said": (files.query_rows(), None, {"classes": AB, "layout": "rtdetr-rows"}, STRETCHED),
    "two classes, said to be v10": (files.rows(), None, {"classes": AB, "layout": "v10"}, RIGHT),
    "yolox, said": (files.yolox(1), None, CAP | {"layout": "yolox"}, RIGHT),
}


@pytest.mark.parametrize("name", SERVED)
def test_a_file_that_is_understood(load: Open, tmp_path: Path, name: str) -> None:
    answer, said, entry, box = SERVED[name]
    require_box(load(files.write_answer(tmp_path / "cap.onnx", answer, said), **entry), box)


CELLS = files.CELLS
REFUSED: dict[str, tuple[files.Array, Entry, str]] = {
    "deepstream": (files.rows(count=CELLS), CAP, "unclear_layout"),
    "deepstream of v5": (files.rows(count=3 * CELLS), CAP, "unclear_layout"),
    "deepstream, said to be v5": (files.rows(count=CELLS), CAP | {"layout": "v5"}, "implausible"),
    "yolox": (files.yolox(1), CAP, "unclear_layout"),
    "yolox, two classes": (files.yolox(2), {"classes": AB}, "unclear_layout"),
    "yolox, said to be v5": (files.noise((1, CELLS, 6), 0, 1), CAP | {"layout": "v5"}, "implausible"),
    "yolox, decoded already": (files.anchors(1, rows=CELLS), CAP | {"layout": "yolox"}, "implausible"),
    "nanodet": (files.noise((1, CELLS, 33), -4, 4), {"classes": ("cap",) * 28, "layout": "v5"}, "implausible"),
    "v6-lite": (
        np.concatenate((files.noise((1, CELLS, 4), 0, 9), files.noise((1, CELLS, 2), 0, 1)), axis=2),
        CAP | {"layout": "v5"},
        "implausible",
    ),
    "boxes in shares": (
        np.concatenate((files.noise((1, 4, CELLS), 0, 1), files.noise((1, 1, CELLS), 0, 0.1)), axis=1),
        CAP,
        "implausible",
    ),
    "scores before the sigmoid": (files.columns(1, score=-7), CAP, "implausible"),
    "pose, said to be of so many classes": (
        np.concatenate((files.columns(1), files.noise((1, 51, CELLS), 0, 320)), axis=1),
        {"classes": ("cap",) * 52},
        "implausible",
    ),
    "obb, one class more": (
        np.concatenate((files.columns(1), files.noise((1, 1, CELLS), -0.7, 2.3)), axis=1),
        {"classes": AB},
        "implausible",
    ),
    "rows of obb": (
        np.concatenate((files.rows(), files.noise((1, 300, 1), 0, 1)), axis=2),
        {"classes": ABC},
        "implausible",
    ),
    "nms read as rt-detr": (files.rows(), {"classes": AB, "layout": "rtdetr"}, "implausible"),
    "rt-detr read as rows": (files.query_rows(), {"classes": AB, "layout": "rows"}, "implausible"),
    "a row in shares": (
        np.array([[[0.2, 0.3, 0.5, 0.6, 0.9, 0]]], np.float32),
        CAP | {"layout": "rows"},
        "implausible",
    ),
    "label and score swapped": (files.rows()[:, :, [0, 1, 2, 3, 5, 4]], CAP | {"layout": "rows"}, "implausible"),
    "a centre read as corners": (
        np.array([[[120, 160, 80, 120, 0.9, 0]]], np.float32),
        CAP | {"layout": "rows"},
        "implausible",
    ),
    "centres read as corners": (
        np.tile(np.array([[[300, 200, 20, 30, 0.1, 0]]], np.float32), (1, 40, 1)),
        CAP | {"layout": "rows"},
        "implausible",
    ),
    "no names": (files.columns(1), {}, "load_failed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(load: Open, tmp_path: Path, name: str) -> None:
    answer, entry, reason = REFUSED[name]
    path = files.write_answer(tmp_path / "cap.onnx", answer)
    with pytest.raises(ModelError) as refused:
        load(path, **entry)
    assert refused.value.reason == reason
    assert "tiny:n@1" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("uint8", [True, False])
def test_a_graph_that_scales_by_itself_is_not_scaled_twice(load: Open, tmp_path: Path, *, uint8: bool) -> None:
    path = files.write_answer(tmp_path / "a.onnx", files.columns(2, score=1.0), OK_NG, uint8=uint8, divisor=255)
    model = load(path)
    grey = 255 * 0.75 + 114 * 0.25  # padded above and below
    require_box(model, RIGHT, grey / 255)
    assert len(model.infer(DARK)) == 0


def test_shares_of_one_are_left_as_they_are(load: Open, tmp_path: Path) -> None:
    path = files.write_answer(tmp_path / "a.onnx", files.columns(2, score=1.0), OK_NG, divisor=1)
    require_box(load(path), RIGHT, 0.75 + 0.25 * 114 / 255)


def test_rows_that_follow_the_picture(load: Open, tmp_path: Path) -> None:
    model = load(files.write_answer(tmp_path / "a.onnx", files.rows(count=3), OK_NG, open_rows=True))
    for _ in range(3):  # one frame's rows are not the next one's
        require_box(model, RIGHT)
        assert len(model.infer(DARK)) == 0


def test_yolov5_with_its_raw_maps_is_served_by_its_first_output(load: Open, tmp_path: Path) -> None:
    maps = [(1, 3, side, side, 6) for side in (40, 20, 10)]
    said = {"names": "['cap']", "stride": "32"}
    require_box(load(files.write_answer(tmp_path / "a.onnx", files.anchors(1), said, others=maps)), RIGHT)
    with pytest.raises(ModelError, match=r"the output is \(1, 37, 2100\) and \(1, 32, 80, 80\)") as refused:
        load(files.write_answer(tmp_path / "b.onnx", files.columns(33), OK_NG, others=[(1, 32, 80, 80)]), classes=AB)
    assert refused.value.reason == "proof_failed"


def test_a_model_that_finds_nothing_is_honest(load: Open, tmp_path: Path) -> None:
    for index, answer in enumerate((files.columns(2, score=0), np.zeros((1, 6, CELLS), np.float32))):
        assert len(load(files.write_answer(tmp_path / f"{index}.onnx", answer, OK_NG)).infer(BRIGHT)) == 0
    said = files.by_ultralytics(AB, **NMS)
    assert len(load(files.write_answer(tmp_path / "rows.onnx", files.rows(score=0.0), said)).infer(BRIGHT)) == 0


FIELD: dict[str, tuple[Entry, files.Box | str]] = {
    "control": ({}, RIGHT),
    "nms-two-classes": ({}, RIGHT),
    "rtdetr-rows-no-head": ({}, STRETCHED),
    "deepstream-one-class": (CAP, "unclear_layout"),
    "yolox-one-class": (CAP, "unclear_layout"),
    "uint8-in": ({}, RIGHT),
    "pose-no-metadata": ({}, "load_failed"),
    "dynamic-rows": ({}, RIGHT),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases from the field are not beside this project")
@pytest.mark.parametrize("name", FIELD)
def test_a_case_from_the_field(load: Open, name: str) -> None:
    entry, right = FIELD[name]
    if isinstance(right, str):
        with pytest.raises(ModelError) as refused:
            load(CASES / f"{name}.onnx", **entry)
        assert refused.value.reason == right
        return
    model = load(CASES / f"{name}.onnx", **entry)
    np.testing.assert_allclose(model.infer(BRIGHT).boxes, [right], atol=0.5)
