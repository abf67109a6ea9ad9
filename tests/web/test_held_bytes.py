"""Bytes of requests in memory: nobody can take what others need."""

import asyncio
from contextlib import ExitStack, suppress

import pytest

from agent.processes.slots.request_memory import MOST_HELD_BYTES
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.held_bytes import Held, HeldBytes

MIB = 1 << 20
LARGEST = 33 * MIB
PICTURE = 3 * MIB


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def never() -> None:
    await asyncio.Event().wait()


async def stalled(held: Held, moved_bytes: int = 0) -> None:
    await held.moving(never(), lambda: moved_bytes, 30.0)


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def hold_all(held: HeldBytes, client: str, stack: ExitStack, piece_bytes: int = MIB) -> tuple[int, str]:
    """Hold as much as a client may, in pieces, until the stack is left; return the bytes, and the refusal's kind."""
    total_bytes = 0
    while True:
        one = stack.enter_context(held.of(client))
        try:
            one.resize(piece_bytes)
        except RequestError as error:
            return total_bytes, error.kind
        total_bytes += piece_bytes


@pytest.mark.parametrize("clients", [1, 2, 3, 20])
def test_one_client_leaves_every_other_its_part_and_is_told_so(clients: int) -> None:
    held = HeldBytes(clients)
    with ExitStack() as stack:
        greedy_bytes, kind = hold_all(held, "greedy", stack)
        assert kind == "limited"
        assert greedy_bytes >= LARGEST
        total_bytes = greedy_bytes
        for at in range(clients - 1):
            own_bytes, kind = hold_all(held, f"other-{at}", stack, PICTURE)
            assert own_bytes >= PICTURE
            assert kind == "busy"
            total_bytes += own_bytes
        assert total_bytes <= MOST_HELD_BYTES


def test_the_largest_request_fits_however_many_clients_there_are() -> None:
    with HeldBytes(1000).of("one") as held:
        held.resize(LARGEST)


def test_what_a_request_held_is_there_again() -> None:
    held = HeldBytes(2)
    for _ in range(10):
        with held.of("one") as one:
            one.resize(LARGEST)
            one.resize(MIB)
            one.resize(LARGEST)
    with suppress(ZeroDivisionError), held.of("one") as one:
        one.resize(LARGEST)
        raise ZeroDivisionError
    with ExitStack() as stack:
        assert hold_all(held, "one", stack)[0] == held.most_bytes // MIB * MIB


def test_a_refused_request_holds_what_it_held() -> None:
    held = HeldBytes(3)
    with held.of("one") as one:
        one.resize(MIB)
        with pytest.raises(RequestError):
            one.resize(MOST_HELD_BYTES)
        assert one.bytes == MIB


def test_a_slow_body_ends_where_another_client_needs_its_bytes() -> None:
    clock = Clock()

    async def run() -> str:
        held = HeldBytes(4, clock)
        with held.of("slow") as slow, held.of("prompt") as prompt:
            slow.resize(LARGEST)
            coming = asyncio.create_task(stalled(slow))
            await asyncio.sleep(0)
            clock.now_s += 1.0
            with pytest.raises(RequestError) as refused:  # because it has its grace
                prompt.resize(LARGEST)
            assert (refused.value.kind, refused.value.retry_s) == ("busy", 1.0)
            clock.now_s += 1.5
            prompt.resize(LARGEST)
            with pytest.raises(RequestError) as yielded:
                await coming
            assert slow.bytes == 0
            return yielded.value.kind

    assert asyncio.run(run()) == "limited"


@pytest.mark.parametrize(
    ("slow_bytes", "moved_bytes", "other_bytes"),
    [
        pytest.param(LARGEST, 32 * MIB, 0, id="it is fast"),
        pytest.param(10 * MIB, 0, LARGEST, id="it is within its client's part"),
        pytest.param(20 * MIB, 0, 30 * MIB, id="its client holds less than who asks"),
    ],
)
def test_a_transfer_goes_on_where(slow_bytes: int, moved_bytes: int, other_bytes: int) -> None:
    clock = Clock()

    async def run() -> None:
        held = HeldBytes(4, clock)
        with held.of("slow") as slow, held.of("other") as other, held.of("prompt") as prompt:
            slow.resize(slow_bytes)
            other.resize(other_bytes)
            coming = asyncio.create_task(stalled(slow, moved_bytes))
            await asyncio.sleep(0)
            clock.now_s += 10.0
            with pytest.raises(RequestError, match="of others"):
                prompt.resize(LARGEST)
            assert not coming.done()
            await ended(coming)

    asyncio.run(run())


def test_a_transfer_that_has_just_arrived_does_not_end() -> None:
    clock = Clock()

    async def run() -> None:
        held, arrives = HeldBytes(4, clock), asyncio.Event()
        with held.of("slow") as slow, held.of("prompt") as prompt:
            slow.resize(LARGEST)
            coming = asyncio.create_task(slow.moving(arrives.wait(), int, 30.0))
            await asyncio.sleep(0)
            clock.now_s += 10.0
            arrives.set()
            await asyncio.sleep(0)
            assert not coming.done(), "it has yet to hear of it"
            with pytest.raises(RequestError, match="of others"):
                prompt.resize(LARGEST)
            assert slow.bytes == LARGEST
            assert await coming

    asyncio.run(run())


def test_nothing_ends_in_vain() -> None:
    clock = Clock()

    async def run() -> None:
        held = HeldBytes(4, clock)
        with held.of("slow") as slow, held.of("busy") as fast, held.of("prompt") as prompt:
            slow.resize(20 * MIB)
            fast.resize(40 * MIB)
            coming = asyncio.create_task(stalled(slow))
            await asyncio.sleep(0)
            clock.now_s += 10.0
            with pytest.raises(RequestError):
                prompt.resize(LARGEST)
            assert not coming.done()
            await ended(coming)

    asyncio.run(run())


def test_a_transfer_ends_in_time_and_its_task_with_the_requests() -> None:
    async def run() -> None:
        with HeldBytes(1).of("one") as one:
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await one.moving(never(), int, 0.01)
            gone = asyncio.create_task(stalled(one))
            await asyncio.sleep(0)
            await ended(gone)

    asyncio.run(run())
