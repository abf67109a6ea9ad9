"""The worker as a process: what it loads, how it ends, and real bytes under a real budget."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from inference.worker.heavy import WEIGHTS
from inference.worker.plant import DEADLINE_S, Feeder, PlantProcess, bytes_of

from agent.messages.children import CacheState, Detections, Hello, Swapped
from agent.messages.references import ModelVersion

NewPlant = Callable[..., PlantProcess]
Make = Callable[..., ModelVersion]
Feed = Callable[..., Feeder]


def mapped(plant: PlantProcess) -> str:
    return Path(f"/proc/{plant.process.pid}/maps").read_text()


def test_no_runtime_is_there_before_a_model_needs_it(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    plant.wait_until(lambda: bool(plant.of(CacheState)))
    assert "openvino" not in mapped(plant)
    plant.switch(make_version("one"))
    assert "openvino" in mapped(plant)
    assert "torch" not in mapped(plant)


def test_it_ends_with_control(new_plant: NewPlant, make_version: Make, feed: Feed) -> None:
    plant = new_plant()
    plant.switch(make_version("one"))
    feed(plant.writers["cam-1"])
    os.kill(plant.process.pid, signal.SIGINT)
    plant.wait_until(lambda: len(plant.of(Detections)) > 5)
    plant.hang_up()
    assert plant.process.wait(DEADLINE_S) == 0


def test_real_models_under_a_real_budget(new_plant: NewPlant, make_heavy: Make, feed: Feed) -> None:
    a, b, c = (make_heavy(name, seed) for seed, name in enumerate("abc"))
    first = new_plant(budget_bytes=2 << 30)
    for version in (a, b, c, a):
        first.switch(version)
    size_bytes = min(bytes_of(first, name) for name in "bc")
    assert size_bytes >= WEIGHTS * WEIGHTS * 4
    first.stop()

    second = new_plant(budget_bytes=int(size_bytes * 2.6))
    for version in (b, c):
        second.switch(version)
    predicted = [row.bytes for state in second.of(CacheState) for row in state.models if row.state == "loading"]
    assert max(predicted) < 2 * size_bytes, "what was measured is remembered"
    feeder = feed(second.writers["cam-1"], 0.002)
    report = second.switch(a).report
    assert (report.order, report.frames_lost) == ("make-before-break", 0)
    second.wait_for_ledger({"a:n@1": "active", "c:n@1": "resident"})
    second.stop()
    feeder.stop()


def test_the_active_model_leaves_where_only_one_fits(new_plant: NewPlant, make_heavy: Make, feed: Feed) -> None:
    a, b = make_heavy("a", 1), make_heavy("b", 2)
    first = new_plant(budget_bytes=2 << 30)
    for version in (a, b):
        first.switch(version)
    size_bytes = bytes_of(first, "b")
    first.stop()

    second = new_plant(budget_bytes=int(size_bytes * 1.5))
    second.switch(b)
    feeder = feed(second.writers["cam-1"], 0.002)
    answer = second.answer(second.assign(a))
    assert isinstance(answer, Swapped), answer
    assert answer.report.order == "break-before-make"
    assert answer.report.blind_ms > 0
    feeder.stop()
    second.wait_until(lambda: len(second.of(Detections)) == feeder.offered)
    assert second.of(Detections)[-1].model == "a:n@1"


def test_hello_comes_first(new_plant: NewPlant) -> None:
    plant = new_plant()
    plant.wait_until(lambda: len(plant.messages) > 1)
    assert isinstance(plant.messages[0], Hello)
