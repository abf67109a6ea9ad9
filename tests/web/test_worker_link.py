"""The link to a worker that is lost in the midst of requests: no request's memory becomes another's."""

import asyncio
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import pytest

from agent.messages.children import Message
from agent.messages.descriptors import RequestLink
from agent.messages.web.control import AskModel, WorkerGone
from agent.messages.web.requests import (
    Found,
    Held,
    InferPicture,
    Loading,
    NotHeld,
    NotInferred,
    Open,
    Opened,
    Signature,
    ToRequests,
    WorkerStarted,
)
from agent.processes.channel import Channel, pair
from agent.processes.slots import request_memory
from agent.web.gateway.core import worker_link
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.service import EXPLICIT_HOLD_S, _refusal
from agent.web.gateway.core.worker_link import HOLD_S, WorkerLink

SOON_S = 10.0
MODEL = "alpha:n@1"
SIGNATURE = Signature("openvino_cpu", is_detector=False, inputs=(), outputs=())


class Control:
    """Control's end, as the link sees it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.handlers: list[Callable[[Message], None]] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def add_handler(self, handler: Callable[[Message], None]) -> None:
        self.handlers.append(handler)

    def say(self, message: Message) -> None:
        for handler in self.handlers:
            handler(message)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for the event loop to bring something about."""
    deadline_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


class Plant:
    """A link, and the test in the places of control and the worker."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, memory: int) -> None:
        self.control = Control()
        self.memory = memory
        self.link = WorkerLink(RequestLink("default", ours.detach(), memory), cast("Any", self.control))
        self.worker: Channel[ToRequests] = Channel(theirs, ToRequests)

    async def heard(self, kind: type[Message]) -> Any:  # noqa: ANN401 - of that kind
        """Return the worker's next message of a kind."""
        found: list[Message] = []

        def comes() -> bool:
            message = self.worker.receive(0.0)
            if isinstance(message, kind):
                found.append(message)
            return bool(found)

        await until(comes)
        return found[0]

    async def open(self) -> None:
        """Answer as the worker the session that the link has asked for."""
        self.worker.send(Opened((await self.heard(Open)).session))
        await until(lambda: self.link.is_open)

    async def next_worker(self) -> None:
        """Have a new worker begin, which throws away what an earlier one did not read."""
        while self.worker.receive(0.0) is not None:
            continue
        self.worker.send(WorkerStarted())
        await self.open()

    async def infer(self, block: int) -> Any:  # noqa: ANN401 - the answer
        return await self.link.infer(block, picture, SOON_S)

    async def take(self) -> int:
        return await self.link.turns.take("mes", SOON_S)


def asks(one: Plant) -> list[AskModel]:
    """Return what control was asked for."""
    return [message for message in one.control.sent if isinstance(message, AskModel)]


def picture(number: int, block: int) -> InferPicture:
    return InferPicture(number, block, "alpha:n@1", 4, 4, (4, 4), 1 << 62)


@contextmanager
def plant() -> Iterator[Plant]:
    memory = request_memory.create("test")
    ours, theirs = pair()
    one = Plant(ours, theirs, memory)
    with closing(theirs), closing(one.link._channel):
        yield one
    os.close(memory)


async def all_blocks(one: Plant) -> list[int]:
    """Take every block that there is, and return them."""
    taken = []
    while one.link.turns.free_blocks:
        taken.append(await one.take())
    return sorted(taken)


def run(test: Callable[[Plant], Any]) -> None:
    async def opened() -> None:
        with plant() as one:
            one.link.start()
            await one.open()
            await test(one)

    asyncio.run(opened())


def test_a_request_that_is_being_written_keeps_its_block_beyond_the_worker() -> None:
    async def test(one: Plant) -> None:
        block = await one.take()
        await one.next_worker()
        assert await all_blocks(one) == [other for other in range(request_memory.BLOCKS) if other != block]
        asked = asyncio.create_task(one.infer(block))
        message = await one.heard(InferPicture)
        assert message.block == block
        one.worker.send(Found(message.number, "alpha:n@1", 2, 1.0))
        assert isinstance(await asked, Found)
        one.link.turns.give_back(block)
        assert await all_blocks(one) == [block]

    run(test)


def test_a_block_is_one_requests_where_the_answer_came_with_the_workers_end() -> None:
    """Answer, new worker and its session may be read at once, before who waits for the answer goes on."""

    async def test(one: Plant) -> None:
        seen: list[int] = []

        async def asks() -> None:
            block = await one.take()
            await one.infer(block)
            seen.extend(await all_blocks(one))  # as others may, while this one reads its answer
            assert block not in seen
            one.link.turns.give_back(block)

        asked = asyncio.create_task(asks())
        number = (await one.heard(InferPicture)).number
        sessions: list[int] = []
        begin = one.link._begin

        def begin_and_answer() -> None:
            begin()
            sessions.append(one.link._session)
            one.worker.send(Opened(one.link._session))

        one.link._begin = begin_and_answer  # type: ignore[method-assign] # a worker that is as fast as can be
        one.worker.send(Found(number, "alpha:n@1", 2, 1.0))
        one.worker.send(WorkerStarted())
        await asked
        assert sessions
        assert len(seen) == request_memory.BLOCKS - 1

    run(test)


@pytest.mark.parametrize("end", [RequestError, asyncio.CancelledError])
def test_what_a_lost_worker_had_is_free_with_the_next_one(end: type[BaseException]) -> None:
    async def test(one: Plant) -> None:
        block = await one.take()
        asked = asyncio.create_task(one.infer(block))
        late = await one.heard(InferPicture)
        one.control.say(WorkerGone("default"))
        if end is asyncio.CancelledError:
            asked.cancel()
        with pytest.raises(end):
            await asked
        waiting = asyncio.create_task(one.take())
        await asyncio.sleep(0)
        assert one.link.turns.free_blocks == request_memory.BLOCKS, "none is given"
        await one.next_worker()
        assert sorted((await waiting, *await all_blocks(one))) == list(range(request_memory.BLOCKS))
        one.worker.send(Found(late.number, "alpha:n@1", 2, 1.0))
        await one.next_worker()  # and the late answer has freed nothing
        assert one.link.turns.free_blocks == 0

    run(test)


def test_the_loss_of_the_worker_before_told_late_does_not_close_the_link() -> None:
    async def test(one: Plant) -> None:
        block = await one.take()
        asked = asyncio.create_task(one.infer(block))
        await one.heard(InferPicture)
        one.control.say(WorkerGone("default"))
        assert not one.link.is_open  # because the worker that is there may still write
        await one.open()
        with pytest.raises(RequestError, match="the worker is lost"):
            await asked
        assert await all_blocks(one) == list(range(request_memory.BLOCKS))

    run(test)


def test_answers_to_a_web_process_before_are_nobodys() -> None:
    numbers = set[int]()

    async def test(one: Plant) -> None:
        asked = asyncio.create_task(one.link.held("alpha:n@1", SOON_S))
        block = await one.take()
        inferred = asyncio.create_task(one.infer(block))
        number = (await one.heard(InferPicture)).number
        numbers.add(number)
        numbers.update(message.number for message in one.control.sent if isinstance(message, AskModel))
        one.worker.send(NotInferred(1, "failed", "of an earlier process"))
        one.worker.send(Found(number, "alpha:n@1", 2, 1.0))
        assert isinstance(await inferred, Found)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    run(test)
    run(test)
    assert len(numbers) == 4


def test_a_load_that_joins_that_of_a_request_keeps_the_model_for_its_own_time() -> None:
    async def test(one: Plant) -> None:
        request = asyncio.create_task(one.link.held(MODEL, SOON_S))
        loads = [asyncio.create_task(one.link.held(MODEL, SOON_S, EXPLICIT_HOLD_S)) for _ in range(2)]
        await until(lambda: len(asks(one)) == 1)
        one.worker.send(Held(asks(one)[0].number, MODEL, SIGNATURE))
        await until(lambda: len(asks(one)) == 2)
        assert request.done()
        assert not any(load.done() for load in loads), "the worker has not said that it keeps it"
        one.worker.send(Held(asks(one)[1].number, MODEL, SIGNATURE))
        assert await asyncio.gather(request, *loads) == [SIGNATURE] * 3
        assert [message.hold_s for message in asks(one)] == [HOLD_S, EXPLICIT_HOLD_S]

    run(test)


@pytest.mark.parametrize("eta_ms", [0.0, 1e-3, 60_000.0])
def test_a_request_that_waited_in_vain_hears_phase_and_estimate(eta_ms: float) -> None:
    """The estimate may be unknown, over, or too long to wait for."""

    async def test(one: Plant) -> None:
        first = asyncio.create_task(one.link.held(MODEL, SOON_S))
        await until(lambda: len(asks(one)) == 1)
        one.worker.send(Loading(asks(one)[0].number, "loading", eta_ms))
        await until(lambda: one.link._loading[MODEL].phase == "loading")
        with pytest.raises(RequestError) as refused:
            await one.link.held(MODEL, 0.01)
        first.cancel()
        assert (refused.value.kind, refused.value.phase) == ("busy", "loading")
        expected_ms = pytest.approx(60_000, abs=5_000) if eta_ms > 1 else 1000
        assert refused.value.eta_ms == expected_ms
        assert refused.value.retry_s == (pytest.approx(60, abs=6) if eta_ms > 1 else 1.0)

    run(test)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("/var/lib/box/models/alpha/n.onnx: no ONNX file", "n.onnx: no ONNX file"),
        ("cannot read '/var/lib/box/n.onnx'", "cannot read 'n.onnx'"),
        ("(/srv/n.xml) and /srv/n.bin differ", "(n.xml) and n.bin differ"),
        (
            "wants image/jpeg, 3/4 of it, or https://store/n.onnx",
            "wants image/jpeg, 3/4 of it, or https://store/n.onnx",
        ),
    ],
)
def test_a_client_learns_no_folders_of_the_device(words: str, told: str) -> None:
    async def test(one: Plant) -> None:
        asked = asyncio.create_task(one.link.held(MODEL, SOON_S))
        await until(lambda: len(asks(one)) == 1)
        one.worker.send(NotHeld(asks(one)[0].number, "load_failed", words))
        with pytest.raises(RequestError, match=f"^{re.escape(told)}$"):
            await asked
        inferred = asyncio.create_task(one.infer(await one.take()))
        asked_for = await one.heard(InferPicture)
        one.worker.send(NotInferred(asked_for.number, "failed", words))
        assert str(_refusal(await inferred)) == told

    run(test)


def test_a_model_of_a_lost_worker_is_in_memory_no_more() -> None:
    async def test(one: Plant) -> None:
        asked = asyncio.create_task(one.link.held(MODEL, SOON_S))
        await until(lambda: len(asks(one)) == 1)
        one.worker.send(Held(asks(one)[0].number, MODEL, SIGNATURE))
        await asked
        assert one.link.changed_s[MODEL][0]
        one.control.say(WorkerGone("default"))
        assert MODEL not in one.link.changed_s

    run(test)


def test_the_pages_of_requests_all_go_back_once_none_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(one: Plant) -> None:
        block = await one.take()
        one.link.memory.block(block)[: 3 << 20] = bytes(3 << 20)
        asked = asyncio.create_task(one.infer(block))
        message = await one.heard(InferPicture)
        monkeypatch.setattr(worker_link, "_IDLE_S", 0.01)
        assert not one.link.tidy()
        assert os.fstat(one.memory).st_blocks * 512 >= 3 << 20
        one.worker.send(Found(message.number, "alpha:n@1", 2, 1.0))
        await asked
        one.link.turns.give_back(block)
        await until(one.link.tidy)
        assert os.fstat(one.memory).st_blocks == 0

    run(test)
