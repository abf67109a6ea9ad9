"""A worker whose models lie in a card's memory: swaps stay within both budgets, and wait for no byte."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from inference.worker.dummies import MIB, PlantOfDummies, start_dummies
from inference.worker.plant import entry_of
from support.device_models import SCRATCH, DeviceRuntime, Size, let_gpus_start
from support.fake_device import FakeDevice

from agent.inference import backends
from agent.inference.memory import process_memory
from agent.inference.memory.device_pool import DevicePool
from agent.messages.children import CacheState, Log, MemoryKept
from agent.messages.references import ModelVersion

DEVICE_BUDGET_MIB = 250
SCRATCH_MIB = 20


class _Card:
    """A card, what its pool counts, and a worker on it."""

    def __init__(self, folder: Path) -> None:
        self.device = FakeDevice(4 * DEVICE_BUDGET_MIB * MIB)
        self.pool = DevicePool(DEVICE_BUDGET_MIB * MIB, self.device)
        self.runtime = DeviceRuntime(self.pool)
        self._folder = folder

    def make(self, name: str, mib: int = 60) -> ModelVersion:
        path = self._folder / f"{name}.plan"
        with path.open("wb") as file:
            file.write(name.encode())
            file.truncate(mib * MIB // 6)
        self.runtime.sizes[name] = Size((mib * MIB,), SCRATCH_MIB * MIB, 0)
        return entry_of(name, path, {"backend": "tensorrt"})


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Card:
    let_gpus_start(monkeypatch)
    made = _Card(tmp_path)
    monkeypatch.setattr(backends, "held_device_bytes", lambda: made.pool.used_bytes)
    monkeypatch.setattr(process_memory, "process_bytes", lambda: 1 << 30)  # bytes that do not move

    def wait(level_bytes: int, timeout_s: float) -> int:
        raise AssertionError(f"a release waits up to {timeout_s} s for {level_bytes} bytes")

    monkeypatch.setattr(process_memory, "wait_until_at_most", wait)
    return made


@pytest.fixture
def new_plant(tmp_path: Path, card: _Card) -> Iterator[Callable[..., PlantOfDummies]]:
    with ExitStack() as stack:
        yield lambda **options: start_dummies(
            stack, card.runtime.load, tmp_path / "cache", compute="tensorrt:0", **options
        )


def test_swaps_stay_within_the_cards_budget(new_plant: Callable[..., PlantOfDummies], card: _Card) -> None:
    plant = new_plant(budget_mib=1000, device_budget_mib=DEVICE_BUDGET_MIB)
    versions = [card.make(name) for name in "abcdef"]
    for _ in range(3):
        for version in versions:
            plant.switch(version)
    states = plant.of(CacheState)
    assert all(0 <= state.used_bytes <= state.budget_bytes == DEVICE_BUDGET_MIB * MIB for state in states)
    assert card.device.most_bytes <= DEVICE_BUDGET_MIB * MIB
    plant.wait_until(lambda: not any(row.state == "releasing" for row in plant.of(CacheState)[-1].models))
    last = plant.of(CacheState)[-1]
    assert last.pools is not None
    assert last.used_bytes == last.pools["device"].used_bytes == card.device.used_bytes
    assert last.pools["device"].runtime_bytes == card.pool.used_by(SCRATCH) == SCRATCH_MIB * MIB
    assert {row.bytes for row in last.models} == {60 * MIB}
    assert len(last.models) == 3, "three and the scratch fit into 250 MiB"
    assert not [log for log in plant.of(Log) if log.level == "WARNING"]
    assert all(kept.bytes == 0 for kept in plant.of(MemoryKept))


def test_a_model_too_large_for_the_card_is_refused_though_the_host_has_room(
    new_plant: Callable[..., PlantOfDummies], card: _Card
) -> None:
    plant = new_plant(budget_mib=1000, device_budget_mib=DEVICE_BUDGET_MIB)
    plant.switch(card.make("small"))
    refusal = plant.refusal(card.make("large", 300))
    assert (refusal.reason, refusal.active) == ("no_memory", "small:n@1")
    assert plant.detect().model == "small:n@1"


def test_one_pool_holds_both(new_plant: Callable[..., PlantOfDummies], card: _Card) -> None:
    plant = new_plant(budget_mib=DEVICE_BUDGET_MIB)
    for name in "abcd":
        plant.switch(card.make(name))
    last = plant.of(CacheState)[-1]
    assert last.pools is None
    assert last.used_bytes == card.device.used_bytes <= DEVICE_BUDGET_MIB * MIB
