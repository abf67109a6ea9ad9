"""A worker process, slots that are fed, and models that betray themselves by their only label."""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies, start_dummies
from inference.worker.heavy import add_weight
from inference.worker.plant import Feeder, PlantProcess, entry_of, start_plant

from agent.inference.memory import process_memory
from agent.messages.references import ModelVersion
from agent.processes.slots.frame_slot import SlotWriter


@pytest.fixture
def new_plant(tmp_path: Path) -> Iterator[Callable[..., PlantProcess]]:
    """`start_plant`, with its stack and cache folder filled in."""
    with ExitStack() as stack:
        yield lambda **options: start_plant(stack, tmp_path / "cache", **options)


@pytest.fixture
def feed() -> Iterator[Callable[..., Feeder]]:
    """Start feeding a writer; all feeders end with the test."""
    with ExitStack() as stack:

        def start(writer: SlotWriter, pause_s: float = 0.0) -> Feeder:
            feeder = Feeder(writer, pause_s)
            feeder.start()
            stack.callback(feeder.stop)
            return feeder

        yield start


@pytest.fixture
def make_version(tmp_path: Path, tiny_model: Callable[..., Path]) -> Callable[..., ModelVersion]:
    """Write a tiny model whose only label is its name, and return its catalog entry; `fields` are ModelVersion's."""

    def make(name: str, fields: dict[str, object] | None = None, **options: object) -> ModelVersion:
        path = tiny_model(tmp_path / f"{name}.onnx", **({"names": (name,)} | options))
        return entry_of(name, path, fields)

    return make


@pytest.fixture
def make_heavy(tmp_path: Path, tiny_model: Callable[..., Path]) -> Callable[[str, int], ModelVersion]:
    """Like `make_version`, with a weight in the graph that no runtime can do without."""

    def make(name: str, seed: int) -> ModelVersion:
        path = tiny_model(tmp_path / f"{name}.onnx", names=(name,))
        add_weight(path, seed)
        return entry_of(name, path)

    return make


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DummyRuntime:
    """Dummies to load, in a process that holds what they say and nothing else."""
    made = DummyRuntime(tmp_path)
    monkeypatch.setattr(process_memory, "process_bytes", made.process_bytes)
    return made


@pytest.fixture
def new_dummies(tmp_path: Path, runtime: DummyRuntime) -> Iterator[Callable[..., PlantOfDummies]]:
    """`start_dummies`, with its stack, runtime and cache folder filled in."""
    with ExitStack() as stack:
        yield lambda **options: start_dummies(stack, runtime.load, tmp_path / "cache", **options)
        for behaviour in runtime.behaviours.values():
            behaviour.load_may_end.set()
            behaviour.answer_may_end.set()
            behaviour.check_may_end.set()
    gc.unfreeze()  # because a load froze what was there, and the worker with its slots would stay in this process
    gc.collect()
