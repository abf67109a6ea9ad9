"""The memory budget is lent among groups: never more than there is, and what is guaranteed always comes back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.app.children.groups.share_ledger import ShareLedger
from agent.messages.children import MemoryLimit
from agent.messages.groups.memory_share import Share, ShareAsked, ShareHeld, ShareRecalled

WHOLE = 1000
PARTS = {"default": 500, "press": 300}
"""200 are guaranteed to nobody."""


@dataclass
class Worker:
    """A worker that keeps to the protocol: models in use stay, standby ones go when they are recalled."""

    limit: int
    in_use: int = 0
    standby: int = 0
    answers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guaranteed = self.limit

    @property
    def used(self) -> int:
        return self.in_use + self.standby


class Device:
    """Two workers, and the ledger between them; messages arrive when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.workers = {group: Worker(part) for group, part in PARTS.items()}
        self.down: set[str] = set()
        self.ending = dict.fromkeys(PARTS, 0)
        """Bytes that killed workers of each group still hold."""
        self.waiting: list[tuple[str, Share | ShareRecalled]] = []
        parts = {group: MemoryLimit(part) for group, part in PARTS.items()}
        self.ended: list[str] = []
        self.ledger = ShareLedger(MemoryLimit(WHOLE), parts, self._send, lambda: self.now_s, end=self._end)
        self._numbers = 0

    def _send(self, group: str, message: Share | ShareRecalled) -> bool:
        if group in self.down:
            return False
        self.waiting.append((group, message))
        return True

    def _end(self, group: str, _detail: str) -> None:
        self.ended.append(group)
        self.dies(group)

    def asks(self, group: str, wanted: int, *, is_requested: bool = True) -> None:
        self._numbers += 1
        self.ledger.asked(group, ShareAsked(self._numbers, MemoryLimit(wanted), is_requested))
        self.check()

    def deliver(self) -> None:
        """Let every message arrive and be answered, also those that follow."""
        while self.waiting:
            group, message = self.waiting.pop(0)
            worker = self.workers[group]
            if isinstance(message, Share):
                worker.limit = message.limit.host_bytes
                worker.answers.append(worker.limit)
            else:
                if message.evict:
                    worker.standby = max(0, min(worker.standby, message.limit.host_bytes - worker.in_use))
                worker.limit = max(message.limit.host_bytes, worker.used)
                self.ledger.held(group, ShareHeld(message.number, MemoryLimit(worker.limit)))
            self.check()

    def passes(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            self.now_s += 0.25
            self.ledger.tick()
            self.deliver()

    def dies(self, group: str) -> None:
        self.down.add(group)
        self.waiting = [one for one in self.waiting if one[0] != group]
        self.workers[group] = Worker(0)
        self.ledger.lost(group, is_gone=not self.ending[group])
        self.check()

    def is_killed(self, group: str) -> None:
        """End a worker whose memory the kernel does not have back at once."""
        self.ending[group] += self.workers[group].used
        self.dies(group)

    def is_gone(self, group: str) -> None:
        self.ending[group] = 0
        self.ledger.gone(group)
        self.check()

    def outlasts(self, group: str) -> None:
        """Let the kernel have kept a killed worker for so long that the next one starts beside it."""
        self.ledger.outlasts(group, self.ending[group])
        self.check()

    def starts(self, group: str) -> None:
        self.down.discard(group)
        self.workers[group] = Worker(self.ledger.limits[group].host_bytes)
        self.workers[group].guaranteed = PARTS[group]

    def check(self) -> None:
        """Nowhere is more in memory than its limit, no worker believes in more than the ledger, nor all in too much."""
        limits = {group: limit.host_bytes for group, limit in self.ledger.limits.items()}
        assert sum(limits.values()) <= sum(limit.host_bytes for limit in self.ledger.taken.values()) <= WHOLE
        assert sum(worker.used for worker in self.workers.values()) + sum(self.ending.values()) <= WHOLE
        for group, worker in self.workers.items():
            assert worker.used <= worker.limit <= limits[group] or group in self.down


@pytest.fixture
def device() -> Device:
    return Device()


def test_what_nobody_is_guaranteed_is_given_at_once(device: Device) -> None:
    device.asks("press", 500)
    assert [type(one) for _, one in device.waiting] == [Share]
    device.deliver()
    assert device.workers["press"].limit == 500


def test_what_others_do_not_use_is_lent(device: Device) -> None:
    device.workers["default"].in_use = 100
    device.asks("press", 900)
    device.deliver()
    assert device.workers["press"].limit == 900
    assert device.workers["default"].limit == 100


def test_beyond_that_there_is_as_much_as_there_is(device: Device) -> None:
    device.workers["default"].in_use = 400
    device.asks("press", 900)
    device.deliver()
    assert device.workers["press"].answers == [600]


def test_a_guess_evicts_nothing_of_others(device: Device) -> None:
    device.workers["default"].standby = 400
    device.asks("press", 900, is_requested=False)
    device.deliver()
    assert device.workers["press"].answers == [600]
    assert device.workers["default"].standby == 400


def test_what_is_guaranteed_is_evicted_from_who_borrowed_it(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use, device.workers["press"].standby = 300, 700
    device.asks("default", 500)
    device.deliver()
    device.passes(1)
    assert device.workers["default"].answers == [500]
    assert device.workers["press"].used == 500


def test_what_was_lent_for_a_moments_use_comes_back_after_it(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 1000  # until its line has switched
    device.asks("default", 500)
    device.deliver()
    device.passes(2)
    assert device.workers["default"].answers == []
    device.workers["press"].in_use, device.workers["press"].standby = 300, 700
    device.passes(2)
    assert device.workers["default"].answers == [500]


def test_a_dead_worker_gives_back_what_it_borrowed_and_keeps_what_is_guaranteed(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 1000
    device.asks("default", 500)
    device.dies("press")
    device.deliver()
    device.passes(1)
    assert device.workers["default"].answers == [500]
    assert device.ledger.limits["press"].host_bytes == 300
    device.starts("press")
    device.workers["press"].in_use = 300


def test_the_memory_of_a_killed_worker_is_lent_once_the_kernel_has_it_back(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 1000
    device.is_killed("press")
    device.asks("default", 500)
    device.deliver()
    device.passes(1)
    assert device.workers["default"].answers == []
    assert device.ledger.limits["press"].host_bytes == 0, "because the next one would have it beside the old one"
    device.is_gone("press")
    device.deliver()
    assert device.workers["default"].answers == [500]
    assert device.ledger.limits["press"].host_bytes == 300


def test_a_killed_worker_that_owes_a_recall_gives_back_when_it_is_gone(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 1000
    device.asks("default", 500)
    device.is_killed("press")
    device.deliver()
    assert device.workers["default"].answers == []
    device.is_gone("press")
    device.deliver()
    assert device.workers["default"].answers == [500]


def test_more_than_the_own_part_waits_for_a_killed_worker_too(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 1000
    device.is_killed("press")
    device.asks("default", 700, is_requested=False)
    device.deliver()
    assert device.workers["default"].answers == []
    device.is_gone("press")
    device.deliver()
    assert device.workers["default"].answers == [700]


def test_what_never_ends_is_its_own_groups_loss_first(device: Device) -> None:
    device.workers["press"].in_use = 200
    device.is_killed("press")
    device.outlasts("press")
    assert device.ledger.limits["press"].host_bytes == 100
    device.asks("default", 1000, is_requested=False)
    device.deliver()
    assert device.workers["default"].answers == [800], "as of any worker that is down, but not what is held"
    device.workers["default"].in_use, device.workers["default"].standby = 500, 300
    device.starts("press")
    device.asks("press", 100)
    device.deliver()
    device.passes(1)
    assert device.workers["press"].answers == [100]
    device.asks("press", 300)
    device.deliver()
    assert device.workers["press"].answers[-1] == 100, "at once, because nobody is evicted for what it lost"
    device.is_gone("press")
    device.asks("press", 300)
    device.deliver()
    device.passes(1)
    assert device.workers["press"].answers[-1] == 300


def test_what_never_ends_in_borrowed_memory_holds_nobody_up(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 900
    device.is_killed("press")
    device.outlasts("press")
    device.asks("default", 500)
    device.passes(1)
    assert device.workers["default"].answers == [100]
    device.ending["press"] = 250  # because the kernel had some of it back after all
    device.outlasts("press")
    device.asks("default", 500)
    device.passes(1)
    assert device.workers["default"].answers[-1] == 500
    device.starts("press")
    assert device.workers["press"].limit == 0


def test_the_next_worker_waits_for_what_the_one_before_may_still_hold(device: Device) -> None:
    device.workers["press"].in_use = 200
    device.is_killed("press")
    device.starts("press")
    assert device.workers["press"].limit == 0
    device.workers["default"].in_use = 500
    device.asks("press", 400)
    device.passes(2)
    assert device.workers["press"].answers == []
    device.outlasts("press")
    device.deliver()
    assert device.workers["press"].answers == [300], "with what is guaranteed to nobody"


def test_a_second_worker_may_die_beside_a_first_that_never_ends(device: Device) -> None:
    device.workers["press"].in_use = 200
    device.is_killed("press")
    device.outlasts("press")
    device.starts("press")
    device.workers["press"].in_use = 100
    device.is_killed("press")
    assert device.ledger.taken["press"].host_bytes == 300
    device.ending["press"] = 200
    device.outlasts("press")
    assert device.ledger.limits["press"].host_bytes == 100
    device.is_gone("press")
    assert device.ledger.taken == device.ledger.limits


def test_what_never_ends_leaves_no_more_than_others_have_not_borrowed(device: Device) -> None:
    device.asks("default", 900)
    device.deliver()
    assert device.ledger.limits["press"].host_bytes == 100
    device.workers["press"].in_use = 80
    device.is_killed("press")
    device.outlasts("press")
    assert device.ledger.limits["press"].host_bytes == 20, "of its own 300, because the rest is lent"
    device.starts("press")
    device.asks("press", 200)
    device.deliver()
    device.passes(1)
    assert device.workers["press"].answers == [200], "what is guaranteed comes, as ever"


def test_a_worker_that_dies_before_the_killed_one_is_gone_takes_nothing_from_its_group(device: Device) -> None:
    device.workers["press"].in_use = 200
    device.is_killed("press")
    device.starts("press")
    device.is_killed("press")
    assert device.ledger.taken["press"].host_bytes == 300
    device.is_gone("press")
    device.starts("press")
    assert device.workers["press"].limit == 300


def test_a_worker_whose_leak_takes_what_is_anothers_is_ended_for_it(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use, device.workers["press"].standby = 900, 100  # 600 of them did not come back
    device.ledger.leaked("press", 600)
    device.asks("default", 500)
    device.deliver()
    device.passes(1)
    assert device.ended == ["press"]
    assert device.workers["default"].answers == [500]


def test_a_leak_that_is_not_what_is_missing_ends_nobody(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].in_use = 1000
    device.ledger.leaked("press", 100)
    device.asks("default", 500)
    device.passes(2)
    device.asks("default", 500, is_requested=False)
    device.ledger.leaked("press", 1000)
    device.passes(2)
    assert device.ended == []


def test_a_worker_that_does_not_answer_holds_nobody_up_for_ever(device: Device) -> None:
    device.asks("press", 1000)
    device.deliver()
    device.workers["press"].standby = 1000
    device.asks("default", 500)
    device.waiting.clear()  # lost with the worker, which hangs
    device.passes(30)
    assert device.workers["default"].answers == [0]


def test_a_worker_cannot_answer_with_less_than_nothing(device: Device) -> None:
    device.asks("default", 1000)
    recalled = next(message for group, message in device.waiting if group == "press")
    assert isinstance(recalled, ShareRecalled)
    device.ledger.held("press", ShareHeld(recalled.number, MemoryLimit(-5000, -5000)))
    assert device.ledger.limits["press"] == MemoryLimit(0, 0)
    assert device.ledger.limits["default"].host_bytes <= WHOLE


def test_a_late_or_foreign_answer_changes_nothing(device: Device) -> None:
    device.ledger.held("press", ShareHeld(77, MemoryLimit(1)))
    assert device.ledger.limits["press"].host_bytes == 300


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "guess", "deliver", "use", "stand", "die", "kill", "gone", "last", "start", "pass"]),
        st.sampled_from(sorted(PARTS)),
        st.integers(0, 1200),
    ),
    max_size=40,
)


def step_of(device: Device, step: str, group: str, size: int) -> None:
    """Carry out one random step; one that cannot be, of a worker that is down or up, does nothing."""
    worker, is_down = device.workers[group], group in device.down
    match step:
        case "ask" | "guess" if not is_down:
            device.asks(group, size, is_requested=step == "ask")
        case "use":
            worker.in_use = min(size, worker.guaranteed, worker.limit - worker.standby)
        case "stand":
            worker.standby = min(size, worker.limit - worker.in_use)
        case "die" if not is_down:
            device.dies(group)
        case "kill" if not is_down:
            device.is_killed(group)
        case "gone":
            device.is_gone(group)
        case "last" if device.ending[group]:
            device.ending[group] = min(device.ending[group], size)
            device.outlasts(group)
        case "start" if is_down:
            device.starts(group)
        case "pass":
            device.passes(0.5)
        case _:
            device.deliver()


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_there_is_never_more_lent_than_there_is_and_what_is_guaranteed_comes(steps: list[tuple[str, str, int]]) -> None:
    device = Device()
    for step, group, size in steps:
        step_of(device, step, group, size)
        device.check()
    device.deliver()
    for group in PARTS:
        device.is_gone(group)
    device.deliver()
    for group, part in PARTS.items():
        if group not in device.down:
            device.workers[group].answers.clear()
            device.asks(group, part)
            device.deliver()
            device.passes(5)
            assert device.workers[group].answers[-1:] >= [part]
