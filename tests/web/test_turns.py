"""Blocks go round between clients, and come back whatever becomes of a request."""

import asyncio
import itertools

import pytest

from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.turns import Turns


def test_clients_take_turns_however_many_requests_one_has() -> None:
    async def run() -> list[str]:
        turns, order = Turns(1), list[str]()

        async def ask(client: str) -> None:
            block = await turns.take(client, 30.0)
            order.append(client)
            await asyncio.sleep(0)
            turns.give_back(block)

        waiting = [asyncio.create_task(ask(client)) for client in ("greedy",) * 4 + ("modest",) * 2]
        await asyncio.sleep(0)
        turns.open()
        await asyncio.gather(*waiting)
        return order

    assert asyncio.run(run()) == ["greedy", "modest", "greedy", "modest", "greedy", "greedy"]


def test_a_request_that_is_given_up_leaves_its_turn_to_others() -> None:
    async def run() -> int:
        turns = Turns(1)
        turns.open()
        held = await turns.take("one", 30.0)
        gone = asyncio.create_task(turns.take("two", 30.0))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        turns.give_back(held)
        return await turns.take("three", 30.0)

    assert asyncio.run(run()) == 0


def test_a_block_that_came_as_its_request_was_given_up_is_free_again() -> None:
    async def run() -> int:
        turns = Turns(1)
        turns.open()
        held = await turns.take("one", 30.0)
        gone = asyncio.create_task(turns.take("two", 30.0))
        await asyncio.sleep(0)
        turns.give_back(held)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return turns.free_blocks

    assert asyncio.run(run()) == 1


def test_waiting_ends_with_a_refusal() -> None:
    async def run() -> None:
        with pytest.raises(RequestError) as refused:
            await Turns(1).take("one", 0.01)
        assert refused.value.kind == "busy"

    asyncio.run(run())


def test_too_many_waiting_requests_are_refused_at_once() -> None:
    async def run() -> None:
        turns = Turns(4)
        waiting = [asyncio.create_task(turns.take("one", 30.0)) for _ in range(128)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError):
            await turns.take("two", 30.0)
        turns.open()
        for _ in range(31):
            for block in range(4):
                await asyncio.sleep(0)
                turns.give_back(block)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())


def test_a_request_that_would_surely_wait_too_long_is_refused_at_once() -> None:
    times_s = itertools.count(100.0, 0.05)  # of each block that comes back

    async def run() -> None:
        turns = Turns(1, lambda: next(times_s))
        turns.open()
        held = await turns.take("one", 30.0)
        waiting = [asyncio.create_task(turns.take("one", 30.0)) for _ in range(40)]
        await asyncio.sleep(0)
        for _ in range(4):
            turns.give_back(held)
        with pytest.raises(RequestError, match="before it take about") as refused:
            await turns.take("one", 0.5)
        assert refused.value.retry_s
        other = asyncio.create_task(turns.take("two", 0.5))  # whose turn is the next but one
        await asyncio.sleep(0)
        for task in (*waiting, other):
            assert not task.done() or task.exception() is None
            task.cancel()
        await asyncio.gather(*waiting, other, return_exceptions=True)

    asyncio.run(run())


def test_no_block_is_given_while_nobody_answers() -> None:
    async def run() -> None:
        turns = Turns(2)
        turns.open()
        first = await turns.take("one", 30.0)
        turns.close()
        turns.give_back(first)
        with pytest.raises(RequestError):
            await turns.take("one", 0.01)
        turns.open()
        assert {await turns.take("one", 30.0), await turns.take("one", 30.0)} == {0, 1}

    asyncio.run(run())
