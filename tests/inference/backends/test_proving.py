"""A proof computes on the thread that asks for it, unlike a line's frame, and refuses golden rings that are none."""

import json
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference.worker.plant import entry_of
from msgspec.structs import replace

from agent.inference.backends.detector import Detector
from agent.inference.validation.golden import prove
from agent.inference.yolo.head import Head, Raw
from agent.inference.yolo.letterbox import Canvas
from agent.inference.yolo.metadata import FileFacts
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelVersion

SIDE = 32
CPU = ModelProcessor("cpu", "openvino", "1", "CPU")


class Noted:
    """A request that notes where it was told to compute."""

    def __init__(self, here: list[bool]) -> None:
        self.canvas = Canvas((SIDE, SIDE))
        self._here = here

    def run(self, *, here: bool = False) -> Raw:
        self._here.append(here)
        return (np.zeros((1, 5, 21), np.float32),)


class Sorted(Noted):
    """A request of a classifier that is sure of its first class."""

    def run(self, *, here: bool = False) -> Raw:
        super().run(here=here)
        return (np.array([[0.9, 0.1]], np.float32),)


def detector_of(folder: Path, here: list[bool]) -> Detector:
    (folder / "a.onnx").write_bytes(b"a")
    head = Head.of(entry_of("a", folder / "a.onnx"), FileFacts(names=("cap",)), ((1, 5, 21),), (SIDE, SIDE))
    return Detector("openvino", head, (SIDE, SIDE), lambda: Noted(here), processor=CPU)


@pytest.mark.parametrize(
    ("ring", "words"), [([1, 2, 3], "has 3 numbers"), ([0, 0, 9e8, 0, 9, 9], "goes beyond")], ids=["odd", "huge"]
)
def test_golden_rings_that_cannot_be_drawn_are_refused_in_words(tmp_path: Path, ring: list[float], words: str) -> None:
    golden = tmp_path / "golden"
    golden.mkdir()
    (golden / "1.png").write_bytes(b"never read")
    item = {"label": "cap", "class": 0, "score": 0.9, "box": [0, 0, 9, 9], "polygons": [ring]}
    (golden / "1.json").write_text(json.dumps({"objects": [item]}))
    detector = detector_of(tmp_path, [])
    version = replace(entry_of("a", tmp_path / "a.onnx"), golden=str(golden))
    with pytest.raises(ModelError, match=f"1.json is no list .*a ring of cap {words}") as refused:
        prove(detector, version)
    assert refused.value.reason == "proof_failed"


def golden_of(folder: Path, expected: object) -> ModelVersion:
    (folder / "a.onnx").write_bytes(b"a")
    (folder / "golden").mkdir()
    cv2.imwrite(str(folder / "golden" / "1.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    (folder / "golden" / "1.json").write_text(json.dumps(expected))
    return replace(entry_of("a", folder / "a.onnx"), golden=str(folder / "golden"), confidence=0.25)


@pytest.mark.parametrize(("score", "different"), [(0.9, None), (0.5, "1.png: ")])
def test_golden_classes_need_no_objects(tmp_path: Path, score: float, different: str | None) -> None:
    top = [{"label": "cap", "class": 0, "score": score}, {"label": "lid", "class": 1, "score": 1 - score}]
    version = golden_of(tmp_path, {"top": top})
    facts = FileFacts(names=("cap", "lid"), task="classify", is_ultralytics=True)
    head = Head.of(version, facts, ((1, 2),), (SIDE, SIDE))
    detector = Detector("openvino", head, (SIDE, SIDE), lambda: Sorted([]), processor=CPU)
    with nullcontext() if different is None else pytest.raises(ModelError, match=different):
        prove(detector, version)


def test_golden_objects_prove_nothing_of_a_classifier(tmp_path: Path) -> None:
    version = golden_of(tmp_path, {"objects": []})
    facts = FileFacts(names=("cap", "lid"), task="classify", is_ultralytics=True)
    head = Head.of(version, facts, ((1, 2),), (SIDE, SIDE))
    detector = Detector("openvino", head, (SIDE, SIDE), lambda: Sorted([]), processor=CPU)
    with pytest.raises(ModelError, match=r"1\.json has no `top`, and .* nothing would be compared"):
        prove(detector, version)


@pytest.mark.parametrize("expected", [{"object": []}, {"top": []}])
def test_golden_files_that_expect_nothing_at_all_are_refused(tmp_path: Path, expected: object) -> None:
    version = golden_of(tmp_path, expected)
    with pytest.raises(ModelError, match="neither `objects` nor `top`"):
        prove(detector_of(tmp_path, []), version)


def test_only_a_proof_computes_where_it_is_asked_for(tmp_path: Path) -> None:
    here: list[bool] = []
    detector = detector_of(tmp_path, here)
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    detector.check_outputs(picture)
    detector.infer(picture)
    assert here == [True, False]
