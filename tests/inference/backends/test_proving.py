"""A proof computes on the thread that asks for it, at that thread's priority; a line's frame does not."""

from pathlib import Path

import numpy as np
from inference.worker.plant import entry_of

from agent.inference.backends.detector import Detector
from agent.inference.yolo.head import Head, Raw
from agent.inference.yolo.letterbox import Canvas
from agent.inference.yolo.metadata import FileFacts
from agent.messages.payloads import ModelProcessor

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


def test_only_a_proof_computes_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"a")
    here: list[bool] = []
    head = Head.of(entry_of("a", tmp_path / "a.onnx"), FileFacts(names=("cap",)), ((1, 5, 21),), (SIDE, SIDE))
    detector = Detector("openvino", head, (SIDE, SIDE), lambda: Noted(here), processor=CPU)
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    detector.check_outputs(picture)
    detector.infer(picture)
    assert here == [True, False]
