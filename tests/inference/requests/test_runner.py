"""Requests begin only where they fit between frames, and each is charged for its time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from support.waiting import until

from agent.inference.backends.tensors.tensor_model import Array, TensorModel
from agent.inference.requests import tensor_blocks
from agent.inference.requests.runner import RequestRunner
from agent.inference.serving.slack import Gap, Slack
from agent.messages.children import Message
from agent.messages.payloads import ModelProcessor
from agent.messages.web.requests import InferTensors, NotInferred, Port, TensorAt, Tensors
from agent.processes.slots.request_memory import RequestMemory, create

MS = 1_000_000
PERIOD = 100 * MS
TOO_LARGE = np.broadcast_to(np.float32(0), (9 << 20,))


@dataclass
class Plant:
    """A line, a model that takes as long as a test says, and the clock of both; also the model's cache."""

    ns: int = 10_000 * MS
    period: int = PERIOD
    frame_takes: int = 0
    takes_ms: float = 1.0
    answer: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    ran: int = 0
    frames: int = 0
    offered: int = 0
    """Time of the newest frame; 0 before the first."""
    got: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slack = Slack(self.clock)
        ports = (Port("x", "FP32", (-1,)),), (Port("y", "FP32", (-1,)),)
        self.model = TensorModel("m:n@1", self, *ports, ModelProcessor("cpu", "openvino", "1", "CPU"))

    def clock(self) -> int:
        self.ns += MS // 100  # so that a wait ends
        return self.ns

    def run(self, inputs: list[Array], outputs: list[int]) -> list[Array]:
        del inputs, outputs
        self.ran += 1
        self.ns += int(self.takes_ms * MS)
        return [self.answer]

    def give_back(self) -> None:
        pass

    def close(self) -> None:
        pass

    def find(self, reference: str) -> str:
        return reference

    @contextmanager
    def borrowed(self, version: str, *, is_request: bool) -> Iterator[TensorModel]:
        assert is_request, version
        yield self.model

    def busy(self, grace_s: float, *, is_request: bool) -> nullcontext[None]:
        assert grace_s
        assert is_request
        return nullcontext()

    def frame(self) -> int:
        """Offer and answer the line's next frame, a period after the last one; return by how much it began late."""
        self.frames += 1
        self.offered = (self.offered or self.ns) + self.period
        late = max(0, self.ns - self.offered)
        self.ns = self.offered + late
        self.slack.began("cam-1", self.frames, self.offered)
        self.ns += self.frame_takes
        self.slack.ended("cam-1", self.frames)
        return late


@pytest.fixture
def plant() -> Plant:
    return Plant()


@pytest.fixture
def ask(plant: Plant) -> Iterator[Callable[..., Message]]:
    """Send a request with an input of `count` numbers; return its answer."""
    parts = cast("Any", plant)
    memory = RequestMemory(create("test"))
    runner = RequestRunner(memory, parts, parts, parts, plant.got.append)
    runner.start()

    def send(count: int = 1) -> Message:
        plant.got.clear()
        inputs = (TensorAt("x", "FP32", (count,), 0, 4 * count),)
        runner.put(InferTensors(1, 0, "m:n@1", inputs, (), plant.ns + MS // 10))
        until(lambda: bool(plant.got))
        return plant.got[0]

    yield send
    runner.stop()


def is_busy(answer: Message) -> bool:
    return isinstance(answer, NotInferred) and answer.fault == "busy"


def line(plant: Plant) -> None:
    """Begin the line's frames."""
    plant.slack.add("cam-1", lambda: False)
    for _ in range(4):
        plant.frame()


def test_a_request_that_fails_is_charged_for_its_time(plant: Plant, ask: Callable[..., Message]) -> None:
    plant.answer, plant.takes_ms = TOO_LARGE, 300
    answer = ask()
    assert isinstance(answer, NotInferred)
    assert answer.fault == "invalid"
    line(plant)
    assert is_busy(ask())
    assert plant.ran == 1


def test_beside_a_stream_without_a_pace_a_failure_takes_its_share(plant: Plant, ask: Callable[..., Message]) -> None:
    plant.slack.add("file", lambda: True, is_paced=False)
    plant.slack.began("file", 1, plant.ns)
    plant.answer, plant.takes_ms = TOO_LARGE, 20
    ask()
    plant.slack.began("file", 2, plant.ns)
    assert plant.slack.wait(MS, plant.ns) is not Gap.FOUND


def test_a_request_that_is_refused_early_shortens_no_estimate(plant: Plant, ask: Callable[..., Message]) -> None:
    plant.takes_ms = 300
    ask()
    plant.model.close()  # so that each fails at once
    for _ in range(50):
        ask()
    line(plant)
    assert is_busy(ask())


def test_an_answer_is_written_after_the_gap(
    plant: Plant, ask: Callable[..., Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(answers: dict[str, Array], block: memoryview) -> tuple[TensorAt, ...]:
        plant.ns += 50 * MS
        return really_write(answers, block)

    really_write = tensor_blocks.write
    monkeypatch.setattr(tensor_blocks, "write", slowly)
    plant.takes_ms = 80
    ask()
    line(plant)
    assert isinstance(ask(), Tensors)


def test_one_slow_inference_does_not_close_a_model(plant: Plant, ask: Callable[..., Message]) -> None:
    plant.takes_ms = 300
    ask()
    plant.takes_ms = 1
    line(plant)
    assert is_busy(ask())
    plant.ns += 3_600 * MS
    plant.offered = 0
    line(plant)
    assert isinstance(ask(), Tensors)
    line(plant)
    assert isinstance(ask(), Tensors)


def test_beside_a_half_loaded_line_a_client_gets_the_gaps(plant: Plant, ask: Callable[..., Message]) -> None:
    plant.period, plant.frame_takes = 13 * MS, 6 * MS
    line(plant)
    for _ in range(20):
        plant.frame()
    answered, delays = 0, []
    for number in range(400):
        # One of 200 is slow, and the frame that it delays leaves a shorter gap.
        plant.takes_ms = 20 if number % 200 == 3 else 5.8 + 0.1 * (number % 7)
        delays.append(plant.frame())
        answered += isinstance(ask(), Tensors)
    assert answered > 0.7 * 400
    assert sum(delay > 0.6 * MS for delay in delays) < 0.1 * 400


def test_a_request_that_fits_no_gap_is_tried_ever_more_seldom(plant: Plant, ask: Callable[..., Message]) -> None:
    plant.period, plant.frame_takes, plant.takes_ms = 20 * MS, 10 * MS, 14
    line(plant)
    answered = [plant.frame() >= 0 and isinstance(ask(), Tensors) for _ in range(500)]
    assert 0 < sum(answered[:250]) < 12
    assert sum(answered[250:]) < 4
    plant.period = 1000 * MS  # a slow line at last
    plant.offered = 0
    line(plant)
    assert sum(plant.frame() >= 0 and isinstance(ask(), Tensors) for _ in range(20)) == 20
    plant.period = 20 * MS
    plant.offered = 0
    line(plant)
    plant.takes_ms = 9
    assert sum(plant.frame() >= 0 and isinstance(ask(), Tensors) for _ in range(100)) > 80


def test_a_larger_input_than_any_before_waits_for_a_gap_of_its_size(plant: Plant, ask: Callable[..., Message]) -> None:
    for _ in range(30):
        assert isinstance(ask(), Tensors)
    line(plant)
    plant.takes_ms = 300
    assert is_busy(ask(1000))
    assert plant.ran == 30
    plant.takes_ms = 1
    assert isinstance(ask(), Tensors)


def test_before_the_first_request_the_proof_tells_its_time(plant: Plant, ask: Callable[..., Message]) -> None:
    line(plant)
    plant.model.proof_bytes, plant.model.proof_ns = 4, 2 * MS
    assert is_busy(ask(1000))
    assert isinstance(ask(2), Tensors)


def test_the_allocator_is_trimmed_after_a_large_input_alone(
    plant: Plant, ask: Callable[..., Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr("agent.inference.requests.runner.process_memory.trim", lambda: trimmed.append(plant.ran))
    ask()
    ask(100_000)
    ask()
    plant.answer = TOO_LARGE
    ask(100_000)  # which fails at its answer
    plant.model.close()
    ask()
    assert trimmed == [2, 4]


def test_the_proof_is_timed_and_counted_as_a_request_is() -> None:
    plant = Plant()
    began_ns = time.monotonic_ns()
    plant.model.check_outputs(np.zeros((64, 64, 3), np.uint8))
    assert plant.model.proof_bytes == 4
    assert 0 < plant.model.proof_ns <= time.monotonic_ns() - began_ns
    assert plant.ran == 2
