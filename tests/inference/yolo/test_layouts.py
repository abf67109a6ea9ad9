"""The table of layouts: each known export is one reading, and what could be two is refused with both named."""

import re

import pytest

from agent.inference.yolo.layouts import Layout
from agent.inference.yolo.metadata import FileFacts, read_facts
from agent.inference.yolo.recognition import recognise
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

V8, V5, ROWS = Layout.ANCHORS, Layout.OBJECTNESS, Layout.END_TO_END
QUERIES, QUERY_ROWS, YOLOX = Layout.QUERIES, Layout.QUERY_ROWS, Layout.GRID
IMGSZ = (320, 320)
CELLS = 40 * 40 + 20 * 20 + 10 * 10


def read(
    classes: int, shape: tuple[int, ...], said: dict[str, object], layout: str = "", imgsz: tuple[int, int] = IMGSZ
) -> Layout:
    entry = ModelVersion("cap", "n", "1", "cap.onnx", "", layout=layout)  # type: ignore[arg-type]
    names = {"names": [f"class{index}" for index in range(classes)]} if said else {}
    return recognise(entry, read_facts(said | names), (shape,), imgsz, classes).layout


def by(name: str, **said: object) -> dict[str, object]:
    """Say what ultralytics writes with each export of the network `name`."""
    return {
        "description": f"Ultralytics {name} model trained on parts.yaml",
        "task": "detect",
        "imgsz": "[320, 320]",
        **said,
    }


NO_NMS, NMS = {"args": "{'nms': False}"}, {"args": "{'nms': True}"}

KNOWN = [
    # by release: 8.0 to 8.3 wrote neither `end2end` nor `head`; `args` came with `nms`, in 8.3.64
    ("v8 of 8.0", 2, (1, 6, CELLS), by("YOLOv8n", version="8.0.100"), V8),
    ("v5u", 80, (1, 84, CELLS), by("YOLOv5nu", version="8.1.0"), V8),
    ("11 of 8.4", 2, (1, 6, CELLS), by("YOLO11n", end2end="False", head="Detect"), V8),
    ("26 without its one-to-one head", 2, (1, 6, CELLS), by("YOLO26n", end2end="False", head="Detect", **NO_NMS), V8),
    ("dynamic", 2, (1, 6, -1), by("YOLO11n", end2end="False"), V8),
    ("v8 with nms of 8.3", 2, (1, 300, 6), by("YOLOv8n", version="8.3.70", **NMS), ROWS),
    ("best with nms of 8.4", 2, (1, 300, 6), by("best", end2end="False", head="Detect", **NMS), ROWS),
    ("one class with nms", 1, (1, 300, 6), by("best", end2end="False", **NMS), ROWS),
    ("nms with other rows", 2, (1, 1000, 6), by("best", end2end="False", **NMS), ROWS),
    ("v10 of 8.2", 2, (1, 300, 6), by("YOLOv10n", version="8.2.40"), ROWS),
    ("v10, one class, 1000 rows", 1, (1, 1000, 6), by("YOLOv10n", version="8.3.1"), ROWS),
    ("26 end to end", 2, (1, 300, 6), by("YOLO26n", end2end="True", head="Detect"), ROWS),
    ("26 end to end, its name lost", 2, (1, 300, 6), by("best", end2end="True"), ROWS),
    ("rows that follow the picture", 2, (1, -1, 6), by("best", end2end="False", **NMS), ROWS),
    ("rows that follow the picture, silent", 2, (1, -1, 6), {"task": "detect", "imgsz": "[320, 320]"}, ROWS),
    ("rt-detr of 8.3, two classes", 2, (1, 300, 6), by("rtdetr-l", version="8.3.40"), QUERIES),
    ("rt-detr of 8.3, three", 3, (1, 300, 7), by("rtdetr-l", version="8.3.40"), QUERIES),
    ("rt-detr of 8.4.20, two", 2, (1, 300, 6), by("rtdetr-l", version="8.4.20", end2end="False"), QUERIES),
    ("rt-detr of 8.4.60, two", 2, (1, 300, 6), by("rtdetr-l", version="8.4.60", end2end="False"), QUERY_ROWS),
    ("rt-detr of 8.4.75, three", 3, (1, 300, 6), by("rtdetr-l", end2end="False"), QUERY_ROWS),
    ("rt-detr since 8.4.76", 2, (1, 300, 6), by("best", end2end="False", head="RTDETRDecoder"), QUERY_ROWS),
    ("rt-detr said to be end to end", 2, (1, 300, 6), by("best", end2end="True", head="RTDETRDecoder"), QUERY_ROWS),
    ("v5 of its own exporter", 80, (1, 3 * CELLS, 85), {"stride": "32"}, V5),
    ("v5, one class", 1, (1, 3 * CELLS, 6), {"stride": "32"}, V5),
    ("v5, one class, another size", 1, (1, 25200, 6), {"stride": "32", "task": "detect"}, V5),
    ("v5, dynamic", 3, (1, -1, 8), {"stride": "32"}, V5),
    ("silent v8", 3, (1, 7, CELLS), {}, V8),
    ("silent v5", 3, (1, 3 * CELLS, 8), {}, V5),
    ("silent rt-detr", 3, (1, 300, 7), {}, QUERIES),
]


@pytest.mark.parametrize(
    ("classes", "shape", "said", "layout"), [case[1:] for case in KNOWN], ids=[case[0] for case in KNOWN]
)
def test_each_exporter_is_understood(
    classes: int, shape: tuple[int, ...], said: dict[str, object], layout: Layout
) -> None:
    assert read(classes, shape, said) is layout


UNCLEAR = [
    ("silent, one class, as many rows as cells", 1, (1, CELLS, 6), {}, {"v5", "rows", "yolox", "yolox-decoded"}),
    ("silent, one class, as many rows as anchors", 1, (1, 3 * CELLS, 6), {}, {"v5", "rows"}),
    ("silent, three classes, as many rows as cells", 3, (1, CELLS, 8), {}, {"v5", "yolox", "yolox-decoded"}),
    ("silent, two classes", 2, (1, 300, 6), {}, {"rows", "rtdetr", "rtdetr-rows"}),
    ("silent, one class", 1, (1, 300, 6), {}, {"rows", "rtdetr-rows"}),
    ("silent, 80 classes", 80, (1, 300, 6), {}, {"rows", "rtdetr-rows"}),
    ("best of 8.3, two classes", 2, (1, 300, 6), by("best", version="8.3.40"), {"rows", "rtdetr"}),
    ("rt-detr of no release, two classes", 2, (1, 300, 6), by("rtdetr-l", end2end="False"), {"rtdetr", "rtdetr-rows"}),
]


@pytest.mark.parametrize(
    ("classes", "shape", "said", "words"), [case[1:] for case in UNCLEAR], ids=[case[0] for case in UNCLEAR]
)
def test_what_could_be_two_is_refused_and_settled_by_the_catalog(
    classes: int, shape: tuple[int, ...], said: dict[str, object], words: set[str]
) -> None:
    with pytest.raises(ModelError, match="could be") as refused:
        read(classes, shape, said)
    assert refused.value.reason == "unclear_layout"
    assert set(re.findall('"([a-z0-9-]+)"', str(refused.value))) == words
    meanings = {word: read(classes, shape, said, layout=word) for word in words}
    assert len(set(meanings.values())) == len(words)
    assert meanings.get("rows", ROWS) is ROWS
    assert meanings.get("rtdetr", QUERIES) is QUERIES
    assert meanings.get("rtdetr-rows", QUERY_ROWS) is QUERY_ROWS


@pytest.mark.parametrize(
    ("classes", "shape", "said"),
    [
        (3, (1, 8, CELLS), {}),  # obb: an angle more
        (1, (1, 56, CELLS), {}),  # pose
        (1, (1, 300, 57), {}),
        (3, (1, CELLS, 7), {}),
        (2, (1, 300, 6), by("YOLO11n", end2end="False", **NO_NMS)),
        (2, (1, 6, CELLS), by("YOLO11n", end2end="True")),
        (3, (2, 7, CELLS), {}),
        (3, (7, CELLS), {}),
    ],
)
def test_what_fits_nothing_is_refused(classes: int, shape: tuple[int, ...], said: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="the output is") as refused:
        read(classes, shape, said)
    assert refused.value.reason == "proof_failed"


@pytest.mark.parametrize("word", ["v5", "v8", "yolox", "detr"])
def test_a_layout_of_the_catalog_that_cannot_be_is_refused(word: str) -> None:
    with pytest.raises(ModelError, match=f'layout = "{word}"') as refused:
        read(2, (1, 300, 6), {}, layout=word)
    assert refused.value.reason == "proof_failed"
    assert '"rows"' in str(refused.value)


@pytest.mark.parametrize(("word", "layout"), [("v10", ROWS), ("v26", ROWS), ("rtdetr", QUERY_ROWS)])
def test_a_word_may_name_more_than_one_layout(word: str, layout: Layout) -> None:
    assert read(3, (1, 300, 6), {}, layout=word) is layout


def test_a_small_input_has_few_anchors() -> None:
    assert read(80, (1, 84, 84), by("YOLO11n", end2end="False"), imgsz=(64, 64)) is V8
    assert read(1, (1, 3 * 84, 6), {"stride": "32"}, imgsz=(64, 64)) is V5


def test_facts_that_nothing_is_known_of_are_none() -> None:
    assert read_facts({}) == FileFacts()
