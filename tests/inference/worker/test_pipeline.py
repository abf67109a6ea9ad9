"""A stream's thread, with a slot that tears its frames."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import cast

import msgspec
import numpy as np
import pytest
from inference.worker.dummies import Behaviour, DummyModel, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import offer

from agent.inference.backends import InferenceError, Model
from agent.inference.memory.cache import Cache
from agent.inference.serving.frame_loss import FrameLossCounter
from agent.inference.serving.line_gate import ActiveModelGate
from agent.inference.serving.model_threads import ThreadsOfModels
from agent.inference.serving.stream_pipeline import Outlet, StreamPipeline
from agent.messages.children import Detections, InferenceFailed, Message
from agent.messages.references import ModelVersion
from agent.processes.channel import MAX_MESSAGE_BYTES
from agent.processes.slots.frame_slot import Frame, SlotReader

FRAMES = 6


class TearingSlot:
    """Offers FRAMES frames, of which every second is torn by the time that it is given back."""

    def __init__(self) -> None:
        self.offered = 0
        self._signal = os.eventfd(FRAMES, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)

    def __del__(self) -> None:
        os.close(self._signal)

    def fileno(self) -> int:
        return self._signal

    def is_waiting(self) -> bool:
        return self.offered < FRAMES

    def take(self) -> Frame:
        os.eventfd_read(self._signal)
        image = np.zeros((4, 6, 3), np.uint8)
        frame = Frame(image, self.offered, self.offered, self.offered, dropped=0, buffer=0, sequence=0)
        self.offered += 1
        return frame

    def release(self, frame: Frame) -> bool:
        return frame.number % 2 == 0

    def read(self) -> tuple[int, int]:
        return self.offered, 0


def line_with_model(
    label: str = "a", usual_s: float = 0.0, behaviour: Behaviour | None = None
) -> ActiveModelGate[Model]:
    cache: Cache[Model] = Cache(100, lambda: None)
    line: ActiveModelGate[Model] = ActiveModelGate("line-1", cache, ThreadsOfModels())
    entry = cache.charge(ModelVersion(name="a", variant="n", version="1", path="", sha256=""), 1)
    assert entry is not None
    model = DummyModel(label, behaviour or Behaviour(), lambda: None)
    model.places.expect(int(usual_s * 1e9))
    cache.loaded(entry, model, {"line-1"})
    line.flip(entry, lambda: None)
    return line


def _has_told(plant: PlantOfDummies, count: int) -> bool:
    return len(plant.of(InferenceFailed)) == count


def test_failures_in_a_row_are_one_models(new_dummies: Callable[..., PlantOfDummies], runtime: DummyRuntime) -> None:
    plant = new_dummies()
    versions = [runtime.make(name) for name in "ab"]
    for number, version in enumerate(versions, 1):
        plant.switch(version)
        behaviour = runtime.behaviours[version.name]
        behaviour.answer_error = InferenceError("no")
        for _ in range(5):
            offer(plant.writers["cam-1"])
            assert behaviour.answers_begun.acquire(timeout=60)
        wait_for(partial(_has_told, plant, 3 * number))
    told = [(one.model, one.in_a_row) for one in plant.of(InferenceFailed)]
    assert told == [("a:n@1", 1), ("a:n@1", 2), ("a:n@1", 4), ("b:n@1", 1), ("b:n@1", 2), ("b:n@1", 4)]


def test_a_torn_frame_is_discarded_and_counted() -> None:
    slot, sent = TearingSlot(), list[Message]()
    tally = FrameLossCounter(slot.read)
    mark = tally.mark(0)
    outlet = Outlet(sent.append, lambda _: nullcontext())
    outlet.slack.add("cam-1", lambda: False)
    pipeline = StreamPipeline("cam-1", cast("SlotReader", slot), line_with_model(), tally, outlet)
    pipeline.start()
    wait_for(lambda: len(sent) == FRAMES // 2 and slot.offered == FRAMES)
    wait_for(lambda: not outlet.slack._streams["cam-1"].in_flight)  # else requests would wait for ever
    pipeline.stop()
    assert [message.frame for message in sent if isinstance(message, Detections)] == [0, 2, 4]
    assert tally.lost_since(mark) == FRAMES // 2


class OneFrame(TearingSlot):
    """Offers one whole frame."""

    def __init__(self) -> None:
        super().__init__()
        self._signal = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)

    def is_waiting(self) -> bool:
        return not self.offered


def test_a_request_may_begin_while_a_frames_answer_is_decoded_and_sent() -> None:
    slot, in_flight = OneFrame(), list[int]()
    outlet = Outlet(lambda _: in_flight.append(len(outlet.slack._streams["cam-1"].in_flight)), lambda _: nullcontext())
    outlet.slack.add("cam-1", slot.is_waiting)
    line = line_with_model()
    pipeline = StreamPipeline("cam-1", cast("SlotReader", slot), line, FrameLossCounter(slot.read), outlet)
    pipeline.start()
    wait_for(lambda: bool(in_flight))
    pipeline.stop()
    assert in_flight == [0]
    assert not outlet.slack._streams["cam-1"].in_flight


class OneTorn(TearingSlot):
    """Tears its second frame alone."""

    def release(self, frame: Frame) -> bool:
        return frame.number != 1


def test_a_torn_frame_waits_for_no_answer_and_the_next_frame_is_taken() -> None:
    slot, sent = OneTorn(), list[Message]()
    outlet = Outlet(sent.append, lambda _: nullcontext())
    behaviour = Behaviour()
    behaviour.answer_may_end.clear()
    line = line_with_model(behaviour=behaviour)
    pipeline = StreamPipeline("cam-1", cast("SlotReader", slot), line, FrameLossCounter(slot.read), outlet)
    pipeline.start()
    try:
        wait_for(lambda: slot.offered == 3)  # one is inferred, one was torn, and one waits with its turn
        assert not sent
    finally:
        behaviour.answer_may_end.set()
    wait_for(lambda: len(sent) == FRAMES - 1)
    pipeline.stop()
    assert [message.frame for message in sent if isinstance(message, Detections)] == [0, 2, 3, 4, 5]


class ScaledSlot(TearingSlot):
    """Offers frames of 6x4 that were scaled down from 12x16."""

    def take(self) -> Frame:
        return replace(super().take(), of=(16, 12))


def test_boxes_of_a_scaled_frame_are_published_in_the_cameras_pixels_with_its_size() -> None:
    told = []
    for slot in (TearingSlot(), ScaledSlot()):
        sent: list[Message] = []
        outlet = Outlet(sent.append, lambda _: nullcontext())
        tally = FrameLossCounter(slot.read)
        pipeline = StreamPipeline("cam-1", cast("SlotReader", slot), line_with_model(), tally, outlet)
        pipeline.start()
        wait_for(lambda sent=sent: len(sent) == FRAMES // 2)  # type: ignore[misc] # bound at once
        pipeline.stop()
        told.append(next(msgspec.json.decode(b"{" + one.tail) for one in sent if isinstance(one, Detections)))
    own, scaled = told
    assert (own["width"], own["height"], scaled["width"], scaled["height"]) == (6, 4, 12, 16)
    box = own["objects"][0]["box"]
    assert any(box)
    assert scaled["objects"][0]["box"] == [box[0] * 2, box[1] * 4, box[2] * 2, box[3] * 4]


def test_an_answer_that_no_message_carries_is_a_frame_that_failed() -> None:
    slot, sent = TearingSlot(), list[Message]()
    pipeline = StreamPipeline(
        "cam-1",
        cast("SlotReader", slot),
        line_with_model(label="x" * MAX_MESSAGE_BYTES),
        FrameLossCounter(slot.read),
        Outlet(sent.append, lambda _: nullcontext()),
    )
    pipeline.start()
    wait_for(lambda: pipeline.progress().missed == FRAMES)
    pipeline.stop()
    assert {type(message) for message in sent} == {InferenceFailed}
    assert all("shorten the names" in message.detail for message in sent if isinstance(message, InferenceFailed))


@pytest.mark.parametrize(("usual_s", "grace_s"), [(0.0, 0.0), (0.9, 0.0), (3.0, 4.0), (60.0, 8.0)])
def test_the_first_inference_of_a_slow_model_has_a_grace_before_it_counts_as_hanging(
    usual_s: float, grace_s: float
) -> None:
    slot, graces_s = TearingSlot(), list[float]()

    def busy(grace_s: float) -> AbstractContextManager[None]:
        graces_s.append(grace_s)
        return nullcontext()

    tally = FrameLossCounter(slot.read)
    line = line_with_model(usual_s=usual_s)
    pipeline = StreamPipeline("cam-1", cast("SlotReader", slot), line, tally, Outlet(lambda _: None, busy))
    assert pipeline.progress().infer_ns == int(usual_s * 1e9)
    pipeline.start()
    wait_for(lambda: graces_s)
    pipeline.stop()
    assert graces_s[0] == grace_s
