"""Four models, room for two, switches at random, two streams: nothing is lost, nothing leaks.

`pytest -m soak tests/inference/worker/test_churn.py` is the long run: half an hour (or `CHANGEOVER_SOAK_S` seconds) at
two switches a second, beside cameras at 5 fps whose frames are lost if nobody takes them in time.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import psutil
import pytest
from inference.worker.plant import Feeder, PlantProcess, bytes_of, offer

from agent.messages.children import CacheState, Detections, InferenceFailed, Log, SwapFailed, Swapped
from agent.messages.references import ModelVersion
from agent.processes.slots.frame_slot import SlotWriter

NewPlant = Callable[..., PlantProcess]
MakeHeavy = Callable[[str, int], ModelVersion]
Feed = Callable[..., Feeder]
SOAK_S = float(os.environ.get("CHANGEOVER_SOAK_S", "1800"))
FRAME_S = 0.2
SWITCH_S = 0.5
TWO_STREAMS = {"cam-1": "line-1", "cam-2": "line-1"}
DRIFT_BYTES = 24 << 20


@dataclass
class Camera:
    """Offers a frame each FRAME_S, whether the last one was taken or not: what is not taken in time is lost."""

    writer: SlotWriter
    offered: int = 0

    def run(self, stopping: threading.Event) -> None:
        while not stopping.wait(FRAME_S):
            offer(self.writer)
            self.offered += 1


class _Tail(msgspec.Struct):
    model: str
    objects: list[dict[str, object]]


def start_churn(new_plant: NewPlant, versions: list[ModelVersion]) -> tuple[PlantProcess, int]:
    """Start a worker with room for two of the models, each of them measured; returns what it holds then."""
    first = new_plant(budget_bytes=2 << 30)
    for version in versions:
        first.switch(version)
    largest_bytes = max(bytes_of(first, version.name) for version in versions[1:])
    first.stop()
    plant = new_plant(streams=TWO_STREAMS, budget_bytes=int(largest_bytes * 2.5))
    for version in versions:
        plant.switch(version)
    return plant, psutil.Process(plant.process.pid).memory_info().rss


def assert_flawless(plant: PlantProcess, changes: list[int], offered: dict[str, int], held_bytes: int) -> None:
    answers = [plant.answer(change) for change in changes]
    plant.wait_until(lambda: all(frames_of(plant, stream)[-1:] == [count - 1] for stream, count in offered.items()))
    missing = {stream: set(range(count)) - set(frames_of(plant, stream)) for stream, count in offered.items()}
    assert not any(missing.values()), f"frames were inferred by nobody: {missing}"
    assert len(plant.of(Detections)) == sum(offered.values())
    assert not plant.of(InferenceFailed)
    assert not [log for log in plant.of(Log) if log.level != "INFO"]
    assert set(Counter(one.reason for one in answers if isinstance(one, SwapFailed))) <= {"superseded"}
    reports = [answer.report for answer in answers if isinstance(answer, Swapped)]
    assert {(report.order, report.frames_lost, report.blind_ms) for report in reports} == {("make-before-break", 0, 0)}
    assert {report.residency for report in reports} == {"resident", "cold"}
    assert_named_truly(plant)
    states = plant.of(CacheState)
    assert all(state.used_bytes <= state.budget_bytes for state in states)
    grown_bytes = psutil.Process(plant.process.pid).memory_info().rss - held_bytes
    assert grown_bytes <= states[-1].budget_bytes // 2 + DRIFT_BYTES, "two models may be resident now, one was then"


def frames_of(plant: PlantProcess, stream: str) -> list[int]:
    return [message.frame for message in plant.of(Detections) if message.stream == stream]


def assert_named_truly(plant: PlantProcess) -> None:
    active = ""
    for message in plant.messages:
        if isinstance(message, Swapped):
            active = message.model
        if isinstance(message, Detections):
            tail = msgspec.json.decode(b"{" + message.tail, type=_Tail)
            assert message.model == tail.model == active
            assert {found["label"] for found in tail.objects} == {active.partition(":")[0]}


def test_a_short_churn_loses_no_frame_and_leaks_nothing(new_plant: NewPlant, make_heavy: MakeHeavy, feed: Feed) -> None:
    versions = [make_heavy(name, seed) for seed, name in enumerate("abcd")]
    plant, held_bytes = start_churn(new_plant, versions)
    feeders = [feed(writer, 0.02) for writer in plant.writers.values()]
    chance, changes = random.Random(7), []
    for _ in range(30):
        changes.append(plant.assign(chance.choice(versions)))
        if chance.random() < 0.8:
            plant.answer(changes[-1])
    plant.answer(changes[-1])
    for feeder in feeders:
        feeder.stop()
    offered = dict(zip(plant.writers, (feeder.offered for feeder in feeders), strict=True))
    assert_flawless(plant, changes, offered, held_bytes)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S * 2 + 300)
def test_a_long_churn_loses_no_frame_and_leaks_nothing(new_plant: NewPlant, make_heavy: MakeHeavy) -> None:
    versions = [make_heavy(name, seed) for seed, name in enumerate("abcd")]
    plant, held_bytes = start_churn(new_plant, versions)
    stopping = threading.Event()
    cameras = [Camera(writer) for writer in plant.writers.values()]
    threads = [threading.Thread(target=camera.run, args=(stopping,)) for camera in cameras]
    for thread in threads:
        thread.start()
    chance, changes, pause = random.Random(7), [], threading.Event()
    for _ in range(int(SOAK_S / SWITCH_S)):
        changes.append(plant.assign(chance.choice(versions)))
        pause.wait(SWITCH_S)
    plant.answer(changes[-1])
    stopping.set()
    for thread in threads:
        thread.join()
    offered = dict(zip(plant.writers, (camera.offered for camera in cameras), strict=True))
    assert_flawless(plant, changes, offered, held_bytes)
