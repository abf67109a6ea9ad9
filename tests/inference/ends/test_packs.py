"""The table of split outputs: each kind by its names, by the catalog's word, or refused; told without a runtime."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from support.split_models import Given, Taken, write
from support.tiny_models import version_of

from agent.inference.ends.packs import WORDS, Pack, filled_shape, recognise, roles, word_of
from agent.inference.yolo.declared import declared_reading, refusal_of_output
from agent.inference.yolo.head import Head
from agent.inference.yolo.metadata import FileFacts
from agent.messages.errors import ModelError
from agent.models.onnx_file import Port

PICTURE = Port("images", (1, 3, 64, 64))
SIZES = Port("orig_target_sizes", (-1, 2), is_whole=True)
CELLS = 84


def pair(boxes: str, numbers: str, rows: int, columns: int) -> list[Port]:
    return [Port(numbers, (1, rows, columns)), Port(boxes, (1, rows, 4))]


TRIPLE = [Port("labels", (1, 300), is_whole=True), Port("boxes", (1, 300, 4)), Port("scores", (1, 300))]
BATCH = [
    Port("num_dets", (1, 1), is_whole=True),
    Port("boxes", (1, 100, 4)),
    Port("scores", (1, 100)),
    Port("labels", (1, 100), is_whole=True),
]
KNOWN = [
    ("rt-detr, d-fine", [PICTURE, SIZES], TRIPLE, Pack.SIZED),
    ("labels as floats", [PICTURE, SIZES], [Port("labels", (1, 300)), *TRIPLE[1:]], Pack.SIZED),
    ("transformers", [PICTURE], pair("pred_boxes", "logits", 300, 3), Pack.LOGITS),
    ("transformers, open", [PICTURE], pair("pred_boxes", "logits", -1, 3), Pack.LOGITS),
    ("four classes", [PICTURE], pair("pred_boxes", "logits", 300, 4), Pack.LOGITS),
    ("rf-detr", [PICTURE], pair("dets", "labels", 300, 3), Pack.NORMED_LOGITS),
    ("detr", [PICTURE], pair("pred_boxes", "logits", 100, 4), Pack.SOFTMAX),
    ("yolo-nas", [PICTURE], pair("pred_bboxes", "pred_scores", CELLS, 3), Pack.CORNERS),
    ("yolo-nas, batch", [PICTURE], BATCH, Pack.COUNTED),
    ("yolo-nas, flat", [PICTURE], [Port("graph2_flat_predictions", (-1, 7))], Pack.FLAT),
    ("v8", [PICTURE], [Port("output0", (1, 7, CELLS))], None),
    ("v8-seg", [PICTURE], [Port("output0", (1, 39, CELLS)), Port("output1", (1, 32, 16, 16))], None),
    ("v5 with its maps", [PICTURE], [Port("output", (1, 252, 8)), Port("a", (1, 3, 8, 8, 8))], None),
    ("three without sizes", [PICTURE], TRIPLE, None),
]


@pytest.mark.parametrize(("inputs", "outputs", "pack"), [one[1:] for one in KNOWN], ids=[one[0] for one in KNOWN])
def test_each_exporter_is_known_by_its_ends(inputs: list[Port], outputs: list[Port], pack: Pack | None) -> None:
    classes = 4 if outputs[0].sides == (1, 300, 4) else 3
    assert recognise(version_of(Path("m.onnx")), inputs, outputs, (64, 64), classes) is pack


def test_the_order_of_outputs_does_not_matter() -> None:
    assert roles(Pack.SIZED, TRIPLE) == (0, 1, 2)
    assert roles(Pack.SIZED, [TRIPLE[2], TRIPLE[0], TRIPLE[1]]) == (1, 2, 0)
    assert roles(Pack.LOGITS, pair("pred_boxes", "logits", 300, 3)) == (1, 0)
    assert roles(Pack.COUNTED, BATCH) == (0, 1, 2, 3)
    assert roles(Pack.COUNTED, BATCH[::-1]) == (3, 2, 1, 0)


def test_two_outputs_of_four_columns_are_told_by_their_names_or_not_at_all() -> None:
    silent = [Port("a", (1, 300, 4)), Port("b", (1, 300, 4))]
    assert recognise(version_of(Path("m.onnx")), [PICTURE], silent, (64, 64), 4) is None


@pytest.mark.parametrize(("word", "pack"), [("rtdetr-logits", Pack.LOGITS), ("rfdetr", Pack.NORMED_LOGITS)])
def test_the_catalog_settles_what_could_be_two(word: str, pack: Pack) -> None:
    silent = pair("a_box", "b", 300, 3)
    with pytest.raises(ModelError, match="could be") as refused:
        recognise(version_of(Path("m.onnx")), [PICTURE], silent, (64, 64), 3)
    assert refused.value.reason == "unclear_layout"
    assert recognise(version_of(Path("m.onnx"), layout=word), [PICTURE], silent, (64, 64), 3) is pack


def test_as_many_queries_as_cells_could_be_three() -> None:
    with pytest.raises(ModelError, match=r'"rtdetr-logits".*"rfdetr".*"yolonas"'):
        recognise(version_of(Path("m.onnx")), [PICTURE], pair("box", "b", CELLS, 3), (64, 64), 3)


def test_each_kind_has_a_word_of_the_catalog() -> None:
    assert {word_of(pack) for pack in Pack} <= WORDS


def test_what_stands_beside_the_picture_is_filled() -> None:
    assert filled_shape(SIZES, (64, 96)) == (1, 2)
    assert filled_shape(Port("pixel_mask", (-1, -1, -1)), (64, 96)) == (1, 64, 96)
    assert filled_shape(Port("pixel_mask", (1, 32, 32)), (64, 96)) == (1, 32, 32)


def test_the_task_and_layout_are_told_without_a_runtime(tmp_path: Path) -> None:
    given = {"dets": Given(np.zeros((1, 300, 4))), "labels": Given(np.zeros((1, 300, 2)))}
    file = write(tmp_path / "m.onnx", Taken("input"), given)
    reading = declared_reading(version_of(file, classes=("cap", "no-cap")))
    assert reading is not None
    assert (reading.task, reading.layout) == ("detect", "rfdetr")
    wrong = refusal_of_output(version_of(file, classes=("cap",)))
    assert wrong is not None
    assert "name the class of each column" in str(wrong)


def test_a_file_with_split_outputs_serves_no_other_task_than_the_catalogs(tmp_path: Path) -> None:
    given = {"dets": Given(np.zeros((1, 300, 4))), "labels": Given(np.zeros((1, 300, 2)))}
    version = version_of(write(tmp_path / "m.onnx", Taken("input"), given), classes=("cap", "no-cap"))
    wrong = refusal_of_output(replace(version, task="segment"))
    assert "the catalog says segment, and the outputs are those of a detector" in str(wrong)
    with pytest.raises(ModelError, match="those of a detector"):
        Head.of(replace(version, task="segment"), FileFacts(pack="NORMED_LOGITS"), [(1, 300, 6)], (64, 64))
    assert refusal_of_output(replace(version, task="detect")) is None
