"""No thread of the worker ends unseen: what crashes says so, begins again, and holds up nobody else."""

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import PlantProcess, offer

from agent.inference.serving import stream_pipeline as pipelines
from agent.inference.serving.stream_pipeline import StreamPipeline
from agent.messages.children import Detections, SwapFailed, ThreadCrashed
from agent.messages.references import ModelVersion
from agent.processes.slots import slot_layout as layout
from agent.processes.slots.frame_slot import SlotWriter
from agent.processes.threads import RestartedThread


class CrashError(BaseException):
    """More than an Exception: nothing but a thread's very edge catches it."""


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the threads that crashed, as the process' hook hears of them."""
    names: list[str] = []

    def hear(crash: threading.ExceptHookArgs) -> None:
        names.append(crash.thread.name if crash.thread is not None else "?")

    monkeypatch.setattr(threading, "excepthook", hear)
    return names


@pytest.mark.parametrize("error", [CrashError("no"), SystemExit(3), ValueError("no")])
def test_a_thread_that_crashes_begins_again_and_says_so(crashes: list[str], error: BaseException) -> None:
    runs: list[int] = []

    def work() -> None:
        runs.append(len(runs))
        if len(runs) < 4:
            raise error

    thread = RestartedThread(work, "worker's")
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert runs == [0, 1, 2, 3]
    assert crashes == ["worker's"] * 3


def test_a_hook_that_fails_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_crash: threading.ExceptHookArgs) -> None:
        raise RuntimeError

    monkeypatch.setattr(threading, "excepthook", fail)
    runs: list[int] = []

    def work() -> None:
        runs.append(0)
        if len(runs) < 3:
            raise CrashError

    thread = RestartedThread(work, "worker's")
    thread.start()
    thread.join(60)
    assert len(runs) == 3


@pytest.mark.parametrize("place", ["prepare", "answer"])
def test_more_crashes_than_threads_and_the_stream_is_answered_again(
    new_dummies: Callable[..., PlantOfDummies],
    runtime: DummyRuntime,
    crashes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    plant = new_dummies()
    version = runtime.make("a")
    plant.switch(version)
    model = plant.worker._lines["line-1"].active
    assert model is not None
    assert model.model is not None

    def crash(*_arguments: object) -> object:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(model.model, place, crash)
        for count in range(1, 8):
            offer(plant.writers["cam-1"])
            wait_for(partial(_is_count, crashes, count))
    (progress,) = plant.worker.progress()
    assert (progress.missed, progress.answered_ns) == (7, 0)
    assert plant.detect().model == "a:n@1"
    wait_for(lambda: plant.worker.progress()[0].missed == 0)
    assert plant.worker.progress()[0].answered_ns >= plant.worker.progress()[0].taken_ns
    plant.switch(runtime.make("b"))
    assert plant.detect().model == "b:n@1"


def _is_count(names: list[str], count: int) -> bool:
    return len(names) == count


def test_a_crash_between_slot_and_model_ends_no_stream(
    new_dummies: Callable[..., PlantOfDummies],
    runtime: DummyRuntime,
    crashes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant = new_dummies()
    plant.switch(runtime.make("a"))

    def crash(*_arguments: object) -> object:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(pipelines, "encode", crash)
        patched.setattr(StreamPipeline, "_failed", crash)
        for count in range(1, 6):
            offer(plant.writers["cam-1"])
            wait_for(partial(_is_count, crashes, count))
    assert plant.detect().model == "a:n@1"


def test_a_loader_and_a_swapper_that_crash_answer_first_and_serve_the_next(
    new_dummies: Callable[..., PlantOfDummies], runtime: DummyRuntime, crashes: list[str]
) -> None:
    plant = new_dummies()
    version = runtime.make("a")
    runtime.behaviours["a"].load_error = CrashError("no")  # type: ignore[assignment] # more than it is made for
    failed = plant.refusal(version)
    assert failed.reason == "load_failed"
    wait_for(lambda: crashes == ["load"])
    assert plant.switch(runtime.make("b")).model == "b:n@1"


def test_frames_of_impossible_sizes_end_no_thread_and_the_next_is_answered(
    new_plant: Callable[..., PlantProcess], make_version: Callable[..., ModelVersion]
) -> None:
    plant = new_plant()
    plant.switch(make_version("a"))
    writer = plant.writers["cam-1"]
    plant.detect()
    for height, width in [(0, 1), (-1, 64), (1 << 40, 1 << 40), (64, 1 << 62), (99999, 99999), (-5, -5)]:
        _offer_of_size(writer, height, width)
        wait_for(partial(writer.wait_taken, 0))
    plant.detect()
    assert not plant.of(ThreadCrashed)
    assert not plant.of(SwapFailed)
    assert len(plant.of(Detections)) == 2
    assert writer._words[layout.TORN] == 6


def _offer_of_size(writer: SlotWriter, height: int, width: int) -> None:
    """Offer a frame whose words say another size than it has."""
    writer.buffer(64, 64)[:] = np.uint8(90)
    at = layout.group(writer._writing or 0)
    writer._words[at + layout.WIDTH], writer._words[at + layout.HEIGHT] = width, height
    writer.offer(1, 1)
