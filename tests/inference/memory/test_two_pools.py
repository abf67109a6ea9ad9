"""The ledger's device bytes are the allocator's at every step, no budget is exceeded, and no release waits."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from inference.worker.plant import entry_of
from support.device_models import KIB, SCRATCH, DeviceModel, DeviceRuntime, Size, let_gpus_start, random_size
from support.fake_device import FakeDevice

from agent.inference import backends
from agent.inference.backends import Model
from agent.inference.memory import process_memory
from agent.inference.memory.admission import AdmissionController
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.device_pool import DevicePool
from agent.inference.memory.footprints import Footprint, Footprints
from agent.inference.memory.pools import Amount, Budget
from agent.inference.memory.runtime_overhead import RuntimeOverhead
from agent.inference.memory.unloader import Unloader
from agent.inference.scheduling.idle_cpu import IdleCpuSampler
from agent.inference.swapping.file_check import FileCheck
from agent.inference.swapping.load_job import LoadJob
from agent.inference.swapping.model_loading import ModelLoader
from agent.messages.children import CacheDecided, MemoryKept, Message
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

DEVICE_BUDGET_BYTES = 500 * KIB
HOST_BUDGET_BYTES = 400 * KIB
TWO_POOLS = Budget(HOST_BUDGET_BYTES, DEVICE_BUDGET_BYTES)
ONE_POOL = Budget(DEVICE_BUDGET_BYTES + HOST_BUDGET_BYTES)
LINES = ("line-1", "line-2")


class _Job(LoadJob):
    """A job whose lines leave their models at once when they are asked to."""

    plant: "_Plant"

    def ask_to_leave(self, lines: set[str]) -> None:
        for line in lines:
            self.plant.leave(line)


class _Plant:
    """Everything of a worker that loads, evicts and releases, on one thread."""

    def __init__(self, folder: Path, budget: Budget, patch: pytest.MonkeyPatch) -> None:
        limit_bytes = budget.device_bytes if budget.device_bytes is not None else budget.host_bytes
        self.device = FakeDevice(total_bytes=2 * limit_bytes)
        self.pool = DevicePool(limit_bytes, self.device)
        self.runtime = DeviceRuntime(self.pool)
        self.cache: Cache[Model] = Cache(budget, lambda: None)
        self.footprints = Footprints(folder / "cache")
        self.told: list[Message] = []
        self.warned: list[str] = []
        self.trimmed: list[bool] = []
        """For each trim, whether a closed model's memory was to leave the heaps of all threads."""
        overhead = RuntimeOverhead()
        self.unloader = Unloader(self.cache, self.footprints, overhead, 2.0, self.warned.append)
        self.admission = AdmissionController(self.cache, self.unloader, self.told.append)
        self.loader = ModelLoader(
            self.cache,
            self.footprints,
            self.admission,
            self.unloader,
            overhead,
            IdleCpuSampler(),
            self.runtime.load,
            make_artifact=lambda _: None,
            prove_later=lambda *_: None,
            compute="cuda:0",
            cache_dir=folder / "cache",
            files=FileCheck(),
        )
        self.serving: dict[str, Entry[Model]] = {}
        self._folder = folder
        let_gpus_start(patch)
        patch.setattr(backends, "held_device_bytes", lambda: self.pool.used_bytes)
        patch.setattr(process_memory, "process_bytes", self.runtime.host_bytes)
        patch.setattr(process_memory, "trim", lambda: self.trimmed.append(process_memory._tops._blocks > 0))
        patch.setattr(process_memory, "wait_until_at_most", _waits)

    def make(self, name: str, size: Size) -> ModelVersion:
        path = self._folder / f"{name}.plan"
        path.write_bytes(name.encode().ljust(size.device_bytes // 8, b"."))
        self.runtime.sizes[name] = size
        return entry_of(name, path, {"backend": "tensorrt"})

    def measure_first(self, version: ModelVersion) -> None:
        """Remember what a model takes, as of an earlier run."""
        size = self.runtime.sizes[version.name]
        key = f"{version.sha256}/tensorrt/cuda:0/own"
        self.footprints.remember(key, Footprint(size.host_bytes, device_bytes=size.device_bytes))

    def load(self, version: ModelVersion, line: str | None, *, is_announced: bool = False) -> Entry[Model]:
        """Load a model for a line, or announce it."""
        job = _Job(version, threading.Condition())
        job.plant = self
        if is_announced:
            job.announced[line or LINES[0]] = 1e12
        else:
            job.join(line or LINES[0], is_ready=False)
        self.loader.load_model(job)
        assert job.entry is not None
        return job.entry

    def switch(self, version: ModelVersion, line: str) -> None:
        self.admission.used(version.reference, line)
        entry = self.cache.claim(version, line) or self.load(version, line)
        before = self.serving.get(line)
        self.cache.activate(line, before, entry)
        self.serving[line] = entry
        if self.admission.has_excess():  # as the load queue does, once the line has left its model
            self.admission.tidy()

    def leave(self, line: str) -> None:
        entry = self.serving.pop(line, None)
        if entry is not None:
            self.cache.unclaim(entry, line)

    def release(self, entry: Entry[Model]) -> bool:
        return self.unloader.release(entry)

    def entries(self) -> list[Entry[Model]]:
        return [entry for entry in self.cache._entries if entry.phase == "resident"]

    def models(self) -> list[DeviceModel]:
        return [entry.model for entry in self.entries() if isinstance(entry.model, DeviceModel)]

    def assert_equal(self) -> None:
        """Assert that the ledger says what the allocator and the device say, and that no pool is over its budget."""
        rows, used, runtimes_bytes = self.cache.statement()
        assert used.device_bytes == self.pool.used_bytes == self.device.used_bytes
        assert sum(row.charge.device_bytes for row in rows) + runtimes_bytes == used.device_bytes
        assert runtimes_bytes == self.pool.used_by(SCRATCH)
        assert not self.cache.budget.shortage(used).is_short
        assert self.device.most_bytes <= self.pool.limit_bytes


def _waits(level_bytes: int, timeout_s: float) -> int:
    raise AssertionError(f"a release waits up to {timeout_s} s for {level_bytes} bytes")


NewPlant = Callable[[Budget], _Plant]


@pytest.fixture
def new_plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewPlant:
    return lambda budget: _Plant(tmp_path, budget, monkeypatch)


@pytest.mark.skipif(process_memory._glibc() is None, reason="another allocator has no heaps of threads")
@pytest.mark.parametrize("fails_proof", [False, True])
def test_host_memory_of_a_closed_gpu_model_leaves_the_heaps(new_plant: NewPlant, *, fails_proof: bool) -> None:
    plant = new_plant(TWO_POOLS)
    version = plant.make("alpha", random_size(random.Random(1)))
    plant.measure_first(version)
    plant.runtime.fails_proof = fails_proof
    if fails_proof:
        with pytest.raises(ModelError):
            plant.load(version, None)
    else:
        plant.switch(version, LINES[0])
        entry = plant.serving[LINES[0]]
        plant.leave(LINES[0])
        assert plant.release(entry)
    assert plant.trimmed[-1]


@pytest.mark.parametrize("budget", [TWO_POOLS, ONE_POOL], ids=["two-pools", "one-pool"])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_steps_leave_the_ledger_equal_to_the_allocator(new_plant: NewPlant, budget: Budget, seed: int) -> None:
    """Loads, swaps, announcements, releases and failures: 10,000 steps over both kinds and both seeds."""
    dice, plant = random.Random(seed), new_plant(budget)
    versions = [plant.make(f"model-{number}", random_size(dice)) for number in range(12)]
    for version in versions[:6]:
        plant.measure_first(version)
    done = {"loaded": 0, "failed": 0, "released": 0}
    for _ in range(2_500):
        step, version, line = dice.random(), dice.choice(versions), dice.choice(LINES)
        if step < 0.75:
            plant.runtime.fails_proof = dice.random() < 0.1
            plant.device.fails_at = plant.device.asked + dice.randrange(1, 6) if dice.random() < 0.2 else None
            try:
                if step < 0.65:
                    plant.switch(version, line)
                elif not plant.cache.reserve(version, line, 1e12):
                    plant.load(version, line, is_announced=True)
                done["loaded"] += 1
            except (ModelError, OutOfMemoryError):
                done["failed"] += 1
            plant.runtime.fails_proof, plant.device.fails_at = False, None
        elif step < 0.85 and (entries := [entry for entry in plant.entries() if entry.is_evictable]):
            done["released"] += plant.release(dice.choice(entries))
        elif step < 0.92 and plant.serving:
            plant.leave(dice.choice(list(plant.serving)))
        else:
            for one in versions:
                plant.cache.unreserve(one, line)
            plant.admission.tidy()
        plant.assert_equal()
    assert min(done.values()) > 100, f"the run was about little: {done}"
    assert {one.decision.verdict for one in plant.told if isinstance(one, CacheDecided)} == {"evicted", "refused"}
    assert not plant.warned


def test_a_thousand_releases_wait_for_nothing_and_leave_nothing(
    new_plant: NewPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = new_plant(TWO_POOLS)
    monkeypatch.setattr(process_memory, "process_bytes", lambda: 1 << 30)  # the host's bytes do not move
    version = plant.make("model", Size((100 * KIB, 20 * KIB), 50 * KIB, 0))
    for _ in range(1_000):
        entry = plant.load(version, LINES[0])
        plant.cache.unclaim(entry, LINES[0])
        assert plant.release(entry)
        plant.assert_equal()
    assert (plant.cache.used, plant.unloader.unreclaimed(), plant.device.used_bytes) == (Amount(), (), 0)
    assert not plant.warned


def test_what_a_closed_model_keeps_is_charged_until_it_is_freed(new_plant: NewPlant) -> None:
    plant = new_plant(TWO_POOLS)
    version = plant.make("leaky", Size((100 * KIB, 20 * KIB), 10 * KIB, 0))
    entry = plant.load(version, LINES[0])
    plant.cache.unclaim(entry, LINES[0])
    model = plant.models()[0]
    model.leaks = True
    assert plant.release(entry)
    assert plant.cache.used == Amount(0, 100 * KIB)
    plant.assert_equal()
    plant.admission.recheck()
    assert plant.told[-1] == MemoryKept(100 * KIB, ("leaky:n@1",))
    model.free_leaked()
    plant.admission.recheck()
    assert plant.told[-1] == MemoryKept(0, ())
    assert plant.cache.used == Amount()


def test_a_release_beside_a_load_is_not_taken_off_the_loads_growth(
    new_plant: NewPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = new_plant(TWO_POOLS)
    left, wanted = (plant.make(name, Size((10 * KIB,), 1, 50 * KIB)) for name in ("left", "wanted"))
    for version in (left, wanted):
        plant.measure_first(version)
    beside = plant.load(left, LINES[0])
    plant.cache.unclaim(beside, LINES[0])
    grow_scratch = DeviceRuntime._grow_scratch

    def release_first(runtime: DeviceRuntime, size_bytes: int) -> None:
        assert plant.release(beside)
        grow_scratch(runtime, size_bytes)

    monkeypatch.setattr(DeviceRuntime, "_grow_scratch", release_first)
    assert plant.load(wanted, LINES[0]).grown_bytes == 50 * KIB


def test_eviction_frees_the_pool_that_is_short(new_plant: NewPlant) -> None:
    plant = new_plant(TWO_POOLS)
    sizes = {
        "wide": Size((10 * KIB,), 1, 300 * KIB),
        "deep": Size((300 * KIB,), 1, 10 * KIB),
        "next": Size((250 * KIB,), 1, 20 * KIB),
        "last": Size((10 * KIB,), 1, 290 * KIB),
    }
    versions = {name: plant.make(name, size) for name, size in sizes.items()}
    for version in versions.values():
        plant.measure_first(version)
    for name in ("wide", "deep"):
        entry = plant.load(versions[name], LINES[0])
        plant.cache.unclaim(entry, LINES[0])
    plant.switch(versions["next"], LINES[0])
    assert {entry.version.name for entry in plant.entries()} == {"wide", "next"}, "the GPU's memory was short"
    plant.switch(versions["last"], LINES[1])
    assert {entry.version.name for entry in plant.entries()} == {"next", "last"}, "the host's memory was short"


@pytest.mark.parametrize(("host_kib", "device_kib"), [(401, 1), (1, 501)])
def test_a_model_is_admitted_where_both_of_its_currencies_fit(
    new_plant: NewPlant, host_kib: int, device_kib: int
) -> None:
    plant = new_plant(TWO_POOLS)
    version = plant.make("large", Size((device_kib * KIB,), 1, host_kib * KIB))
    plant.measure_first(version)
    with pytest.raises(OutOfMemoryError, match="of the GPU's"):
        plant.load(version, LINES[0])
    decision = plant.told[-1]
    assert isinstance(decision, CacheDecided)
    assert (decision.decision.reason, decision.decision.needed_bytes) == ("too_large", KIB)
    assert plant.device.asked == 0


def test_a_prediction_that_was_too_low_is_corrected_and_more_is_evicted(new_plant: NewPlant) -> None:
    plant = new_plant(TWO_POOLS)
    first = plant.make("first", Size((200 * KIB,), 1, 0))
    second = plant.make("second", Size((150 * KIB,), 1, 0))
    large = plant.make("large", Size((200 * KIB, 200 * KIB), 1, 0))
    for version in (first, second):
        plant.measure_first(version)
        plant.cache.unclaim(plant.load(version, LINES[0]), LINES[0])
    key = f"{large.sha256}/tensorrt/cuda:0/own"
    plant.footprints.remember(key, Footprint(0, device_bytes=100 * KIB))
    plant.switch(large, LINES[0])
    assert {entry.version.name for entry in plant.entries()} == {"large"}
    plant.assert_equal()
    assert plant.footprints.known(key) is not None
    assert plant.footprints.known(key).device_bytes == 400 * KIB  # type: ignore[union-attr] # said above


def test_a_model_that_the_pool_never_holds_is_refused_and_nothing_stays(new_plant: NewPlant) -> None:
    plant = new_plant(TWO_POOLS)
    version = plant.make("endless", Size((100 * KIB,) * 6, 1, 0))
    plant.footprints.remember(f"{version.sha256}/tensorrt/cuda:0/own", Footprint(0, device_bytes=1))
    with pytest.raises(OutOfMemoryError):
        plant.load(version, LINES[0])
    plant.assert_equal()
    assert plant.cache.used == Amount()


def test_the_scratch_block_is_the_runtimes_and_not_the_first_models(new_plant: NewPlant) -> None:
    plant = new_plant(TWO_POOLS)
    versions = [plant.make(f"model-{number}", Size((40 * KIB,), 120 * KIB, 0)) for number in range(5)]
    for version in versions:
        with suppress(ModelError):
            plant.cache.unclaim(plant.load(version, LINES[0]), LINES[0])
    rows, used, runtimes_bytes = plant.cache.statement()
    assert {row.charge.device_bytes for row in rows} == {40 * KIB}
    assert (used.device_bytes, runtimes_bytes) == ((5 * 40 + 120) * KIB, 120 * KIB)


def test_what_nothing_counts_is_charged_as_predicted_and_returned_at_once(
    new_plant: NewPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = new_plant(TWO_POOLS)
    version = plant.make("unseen", Size((40 * KIB,), 10 * KIB, 0))
    monkeypatch.setattr(DeviceModel, "device_bytes", None)
    monkeypatch.setattr(backends, "held_device_bytes", lambda: 0)
    entry = plant.load(version, LINES[0])
    assert plant.cache.used.device_bytes == entry.device_bytes == entry.predicted.device_bytes > 0
    plant.cache.unclaim(entry, LINES[0])
    assert plant.release(entry)
    assert plant.cache.used == Amount()
