"""A stream's thread, with a slot that tears its frames."""

from contextlib import nullcontext
from typing import cast

import numpy as np
from inference.worker.dummies import Behaviour, DummyModel, wait_for

from agent.inference.backends import Model
from agent.inference.cache import Cache
from agent.inference.line import Line
from agent.inference.pipeline import Outlet, Pipeline
from agent.inference.tally import Tally
from agent.messages.children import Detections, Message
from agent.messages.references import ModelVersion
from agent.processes.frame_slot import Frame, SlotReader

FRAMES = 6


class TearingSlot:
    """Offers FRAMES frames, of which every second is torn by the time that it is given back."""

    def __init__(self) -> None:
        self.offered = 0

    def wait(self, timeout_s: float | None) -> bool:
        del timeout_s
        return self.offered < FRAMES

    def take(self) -> Frame:
        image = np.zeros((4, 6, 3), np.uint8)
        frame = Frame(image, self.offered, self.offered, self.offered, dropped=0, buffer=0, sequence=0)
        self.offered += 1
        return frame

    def release(self, frame: Frame) -> bool:
        return frame.number % 2 == 0

    def read(self) -> tuple[int, int]:
        return self.offered, 0


def line_with_model() -> Line[Model]:
    cache: Cache[Model] = Cache(100, lambda: None)
    line: Line[Model] = Line("line-1", cache)
    entry = cache.charge(ModelVersion(name="a", variant="n", version="1", path="", sha256=""), 1)
    assert entry is not None
    cache.loaded(entry, DummyModel("a", Behaviour(), lambda: None), {"line-1"})
    line.flip(entry, lambda: None)
    return line


def test_a_torn_frame_is_discarded_and_counted() -> None:
    slot, sent = TearingSlot(), list[Message]()
    tally = Tally(slot.read)
    mark = tally.mark(0)
    outlet = Outlet(sent.append, nullcontext)
    pipeline = Pipeline("cam-1", cast("SlotReader", slot), line_with_model(), tally, outlet)
    pipeline.start()
    wait_for(lambda: len(sent) == FRAMES // 2 and slot.offered == FRAMES)
    pipeline.stop()
    assert [message.frame for message in sent if isinstance(message, Detections)] == [0, 2, 4]
    assert tally.lost_since(mark) == FRAMES // 2
