"""Two workers of dummies, and control's ledger between them: what one borrows comes back when the other loads."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from inference.worker.dummies import MIB, DummyRuntime, PlantOfDummies, start_dummies
from inference.worker.plant import DEADLINE_S

from agent.app.children.groups.share_ledger import ShareLedger
from agent.inference.swapping import budget_share
from agent.messages.children import CacheState, MemoryLimit, Message
from agent.messages.groups.memory_share import Share, ShareAsked, ShareHeld, ShareRecalled

WHOLE_MIB, PART_MIB = 200, 100


class TwoWorkers:
    """The plants of two groups, and the thread that stands for control."""

    def __init__(self, stack: ExitStack, runtime: DummyRuntime, folder: Path) -> None:
        self.plants: dict[str, PlantOfDummies] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Message] | None] = queue.SimpleQueue()
        parts = {group: MemoryLimit(PART_MIB * MIB) for group in ("one", "two")}
        self._ledger = ShareLedger(MemoryLimit(WHOLE_MIB * MIB), parts, self._send)
        for group in parts:
            plant = start_dummies(
                stack,
                runtime.load,
                folder / group,
                budget_mib=PART_MIB,
                guaranteed_mib=PART_MIB,
                heard=self._hears(group),
            )
            self.plants[group] = plant
        thread = threading.Thread(target=self._run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._inbox.put, None)

    def used_mib(self) -> int:
        return sum(plant.of(CacheState)[-1].used_bytes for plant in self.plants.values()) // MIB

    def _hears(self, group: str) -> Callable[[Message], None]:
        return lambda message: self._inbox.put((group, message))

    def _send(self, group: str, message: Share | ShareRecalled) -> bool:
        self.plants[group].worker.share(message)
        return True

    def _run(self) -> None:
        while True:
            try:
                said = self._inbox.get(timeout=0.1)
            except queue.Empty:
                self._ledger.tick()
                continue
            if said is None:
                return
            group, message = said
            if isinstance(message, ShareAsked):
                self._ledger.asked(group, message)
            elif isinstance(message, ShareHeld):
                self._ledger.held(group, message)


@pytest.fixture
def both(tmp_path: Path, runtime: DummyRuntime) -> Iterator[TwoWorkers]:
    with ExitStack() as stack:
        yield TwoWorkers(stack, runtime, tmp_path)


def test_a_full_budget_of_one_is_not_the_others_matter(both: TwoWorkers, runtime: DummyRuntime) -> None:
    one, two = both.plants["one"], both.plants["two"]
    a, b, c, d, e = (runtime.make(name) for name in "abcde")
    for version in (a, b, c):
        assert one.switch(version).report.order == "make-before-break"
    one.wait_for_ledger({"a:n@1": "resident", "b:n@1": "resident", "c:n@1": "active"})
    runtime.own_bytes = 0  # because the second worker's process has a runtime of its own
    assert two.switch(d).report.residency == "cold"
    two.wait_for_ledger({"d:n@1": "active"})
    one.wait_until(lambda: len(one.resident()) == 2)
    assert one.detect().model == "c:n@1"
    assert two.switch(e).report.order == "break-before-make", "more than its part it gets only of what is left"
    two.wait_for_ledger({"e:n@1": "active"})
    assert one.detect().model == "c:n@1"
    assert both.used_mib() <= WHOLE_MIB


def test_a_load_that_hangs_in_one_is_not_the_others_matter(
    both: TwoWorkers, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_share, "_BESIDE_S", 0.2)
    one, two = both.plants["one"], both.plants["two"]
    a, b, c, d = (runtime.make(name) for name in "abcd")
    for version in (a, b):
        one.switch(version)
    one.wait_for_ledger({"a:n@1": "resident", "b:n@1": "active"})
    runtime.own_bytes = 0
    runtime.behaviours["c"].load_may_end.clear()
    one.assign(c)
    assert runtime.behaviours["c"].load_began.wait(DEADLINE_S)
    assert two.switch(d).report.residency == "cold"
    assert both.used_mib() <= WHOLE_MIB
    assert one.detect().model == "b:n@1"
    runtime.behaviours["c"].load_may_end.set()
