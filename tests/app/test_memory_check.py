"""GPU memory that the ledger does not know is an alert, once it lasts."""

import pytest

from agent.app.observability.memory_check import MemoryCheck
from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import GpuMemory, Reading
from agent.messages.children import CacheState, MemoryKept, ResidentModel
from agent.messages.payloads import CachePool, Pool

MIB = 1 << 20
WORKER = 4242
POOLS: dict[Pool, CachePool] = {"host": CachePool(1 << 30, 0), "device": CachePool(4 << 30, 0)}
CONTEXT_MIB = 400


class _Box:
    """A worker's ledger, and a GPU that holds what a test says."""

    def __init__(self, *, has_own_memory: bool) -> None:
        self.decided: list[MemoryKept] = []
        self.check = MemoryCheck(self.decided.append)
        self._now_s = 0.0
        self._has_own_memory = has_own_memory

    def ledger(self, used_mib: int, state: str = "active", *, is_counted: bool = True) -> None:
        models = (ResidentModel("a:n@1", used_mib * MIB, state, ""),)
        pools = POOLS if self._has_own_memory else None
        message = CacheState(4 << 30, used_mib * MIB, models, pools, used_mib * MIB, is_counted)
        self.check.told(message, self._now_s)

    def passes(self, seconds: int, held_mib: int) -> None:
        """Let time pass while the GPU holds so much for the worker."""
        for _ in range(seconds):
            self._now_s += 1
            gpu = GpuMemory(1 << 30, 8 << 30, {WORKER: held_mib * MIB, 5: 1 << 30})
            memory = HostReading(8 << 30, (6000 - held_mib) * MIB, 0, processes={"worker": 500 * MIB})
            self.check.tick(self._now_s, Reading("nvml", gpu=gpu if self._has_own_memory else None), memory, [WORKER])


@pytest.mark.parametrize(("has_own_memory", "leak_mib"), [(True, 300), (False, 1100)])
def test_memory_of_no_model_is_told_once_it_lasts_and_once_it_is_back(*, has_own_memory: bool, leak_mib: int) -> None:
    box = _Box(has_own_memory=has_own_memory)
    box.ledger(1000)
    box.passes(60, 1000 + CONTEXT_MIB)
    box.ledger(200)
    box.passes(25, 200 + CONTEXT_MIB + leak_mib)
    assert not box.decided
    box.passes(60, 200 + CONTEXT_MIB + leak_mib)
    assert box.decided == [MemoryKept(leak_mib * MIB, ("no model (GPU memory)",))]
    box.passes(60, 200 + CONTEXT_MIB)
    assert box.decided[1:] == [MemoryKept(0, ())]


def test_what_the_worker_keeps_is_told_at_once_and_beside_it() -> None:
    box = _Box(has_own_memory=True)
    box.check.told(MemoryKept(7, ("b:n@1",)), 0.0)
    box.ledger(1000)
    box.passes(30, 1000)
    box.passes(60, 1500)
    assert box.decided == [
        MemoryKept(7, ("b:n@1",)),
        MemoryKept(7 + 500 * MIB, ("b:n@1", "no model (GPU memory)")),
    ]
    box.check.worker_lost()
    box.check.told(MemoryKept(0, ()), 0.0)
    assert box.decided[-1] == MemoryKept(0, ())


def test_a_prediction_is_not_compared() -> None:
    box = _Box(has_own_memory=True)
    box.ledger(1000, "loading")
    box.passes(60, 400)
    box.ledger(1000)
    box.passes(90, 1400)
    box.ledger(1000, is_counted=False)
    box.passes(90, 2400)
    assert not box.decided


def test_a_gpu_that_names_no_processes_is_not_compared() -> None:
    box = _Box(has_own_memory=True)
    box.ledger(1000)
    for now_s in range(100):
        box.check.tick(float(now_s), Reading("nvml", gpu=GpuMemory(1, 2)), None, [])
    assert not box.decided
