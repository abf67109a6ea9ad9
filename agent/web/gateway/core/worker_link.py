"""The event loop's end of the link to a worker: models that are asked for, and requests in its blocks."""

import asyncio
import itertools
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.messages.children import Message
from agent.messages.descriptors import RequestLink
from agent.messages.errors import Reason
from agent.messages.web.control import AskModel, ModelRefused, WorkerGone
from agent.messages.web.requests import (
    Found,
    FromRequests,
    Held,
    InferPicture,
    InferTensors,
    Loading,
    NotHeld,
    NotInferred,
    Open,
    Opened,
    Release,
    Released,
    Signature,
    Tensors,
    WorkerStarted,
)
from agent.processes.channel import Channel, ChannelClosedError
from agent.processes.slots.request_memory import BLOCKS, RequestMemory
from agent.web.gateway.core.faults import RequestError, busy, without_folders
from agent.web.gateway.core.turns import Turns
from agent.web.serving.control_link import ControlLink

_log: Final = logging.getLogger(__name__)
HOLD_S: Final = 300.0
"""Time for which a model is kept after a request asked for it."""
_RENEWED_S: Final = HOLD_S / 3
_UNANSWERED_S: Final = HOLD_S + 60
"""A model that was asked for so long ago is asked for again; the worker gives one up after HOLD_S."""
_RETRY_S: Final = 2.0
_UNKNOWN_S: Final = 1.0
"""Estimate of a load of which nothing is known yet, or which takes longer than its estimate was."""
_IDLE_S: Final = 5.0
_READ_BATCH: Final = 64
_RANDOM_BITS: Final = 48
_ANSWER_MARGIN_S: Final = 15.0
"""A worker that answers this long after a request's deadline is taken to be lost; control restarts one that hangs."""
_LASTING: Final[frozenset[Reason]] = frozenset(
    {"unknown_model", "revoked", "unsigned", "hash_mismatch", "file_missing", "unclear_layout", "implausible"}
)
"""Reasons of a failed load that a retry cannot cure."""

Inferred = Found | Tensors | NotInferred
Numbered = Callable[[int, int], InferPicture | InferTensors]
"""Makes a request of its number and block."""


@dataclass
class _Loading:
    """A model that was asked for; all requests for it wait for one future."""

    held: "asyncio.Future[Signature]"
    hold_s: float
    """Time for which the worker was asked to keep it."""
    phase: str = "queued"
    due_s: float = 0.0
    """Estimated end (monotonic); 0: unknown."""
    asked_s: float = field(default_factory=time.monotonic)


@dataclass
class _UnderWay:
    """A request in the worker; its block is free again when the answer was read, or nobody waits for it."""

    block: int
    answer: "asyncio.Future[Inferred]"


@dataclass
class _Known:
    """A model that the worker held, and when it said so (monotonic)."""

    signature: Signature
    since_s: float = field(default_factory=time.monotonic)


class WorkerLink:
    """Link to the worker of one group. For the event loop's thread."""

    def __init__(self, link: RequestLink, control: ControlLink) -> None:
        self.memory: Final = RequestMemory(link.memory)
        self.turns: Final = Turns(BLOCKS)
        self.group: Final = link.group
        self._channel: Final[Channel[FromRequests]] = Channel(
            socket.socket(fileno=link.channel), FromRequests, patient=False
        )
        self._control: Final = control
        self._session = 0
        self._is_open = False
        self._numbers: Final = itertools.count(secrets.randbits(_RANDOM_BITS))
        """Of messages; begins anywhere, so that an answer to an earlier web process answers nothing."""
        self._loading: Final[dict[str, _Loading]] = {}
        self._references: Final[dict[int, str]] = {}
        """Reference that each AskModel under way names."""
        self._known: Final[dict[str, _Known]] = {}
        self._under_way: Final[dict[int, _UnderWay]] = {}
        self._used_s = 0.0
        """Time at which a request was last under way (monotonic); 0: the pages are given back."""
        self._releasing: Final[dict[int, asyncio.Future[str]]] = {}
        self.changed_s: Final[dict[str, tuple[bool, float]]] = {}
        """Last change of each model (resident or not), and its time (monotonic, s), because `cache` may lag."""

    @property
    def is_open(self) -> bool:
        """True while a worker answers."""
        return self._is_open

    def start(self) -> None:
        """Throw away what an earlier web process did not read, and begin a session."""
        while self._channel.receive(0.0) is not None:
            continue
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._read)
        self._control.add_handler(self._from_control)
        self._begin()

    async def held(self, reference: str, wait_s: float, hold_s: float = HOLD_S) -> Signature:
        """Return what a model takes and gives, once it is resident and kept for `hold_s`.

        Raises RequestError with phase and estimate where it is not within `wait_s`, or is not expected to be.
        """
        known = self._known.get(reference)
        if known is not None and hold_s <= HOLD_S and time.monotonic() - known.since_s < _RENEWED_S:
            return known.signature
        loading = self._loading.get(reference)
        if loading is None or time.monotonic() - loading.asked_s > _UNANSWERED_S:
            loading = self._ask(reference, hold_s)
        if loading.due_s and loading.due_s - time.monotonic() > wait_s:
            raise self._still_loading(loading)
        began_s = time.monotonic()
        try:
            signature = await asyncio.wait_for(asyncio.shield(loading.held), wait_s)
        except (TimeoutError, asyncio.TimeoutError):
            raise self._still_loading(loading) from None
        if loading.hold_s < hold_s:  # another request asked for it, which keeps it for less
            return await self.held(reference, wait_s - (time.monotonic() - began_s), hold_s)
        return signature

    def forget(self, reference: str) -> None:
        """Ask for the model again before the next request, because it is not resident any more."""
        self._known.pop(reference, None)

    async def infer(self, block: int, request: Numbered, timeout_s: float) -> Inferred:
        """Send a request whose data lies in `block`, and return its answer; then the caller reads the block.

        The block must be given back by `turns.give_back` after that; where this raises or is cancelled, the link does
        so itself once the worker is done with it. Raises RequestError where the worker is lost.
        """
        number = next(self._numbers)
        answer: asyncio.Future[Inferred] = asyncio.get_running_loop().create_future()
        self._under_way[number] = _UnderWay(block, answer)
        self._used_s = time.monotonic()  # here too, because a request may begin and end between two looks
        try:
            self._send(request(number, block))
        except RequestError:
            del self._under_way[number]
            self.turns.give_back(block)
            raise
        try:
            await asyncio.wait({answer}, timeout=timeout_s + _ANSWER_MARGIN_S)
        except asyncio.CancelledError:
            if answer.done() and answer.exception() is None:
                self.turns.give_back(block)  # its answer came as it was given up
            raise
        finally:
            answer.cancel()  # unless it is done: so `_answered` gives the block back
        if answer.cancelled():
            raise busy("the worker does not answer", _RETRY_S)
        return answer.result()

    async def release(self, reference: str, timeout_s: float) -> None:
        """Have a model unloaded; returns when its bytes are back. Raises RequestError where it stays."""
        self.forget(reference)
        number = next(self._numbers)
        released: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._releasing[number] = released
        try:
            self._send(Release(number, reference))
            detail = await asyncio.wait_for(released, timeout_s)
        except (TimeoutError, asyncio.TimeoutError):
            raise busy("the worker is busy with another model", _RETRY_S) from None
        finally:
            self._releasing.pop(number, None)
        if detail:
            raise RequestError("invalid", without_folders(detail))
        self.changed_s[reference] = (False, time.monotonic())

    def tidy(self) -> bool:
        """Give the pages of large requests back to the system, once nothing was under way for a while; True then."""
        now_s = time.monotonic()
        if self.turns.free_blocks < BLOCKS:
            self._used_s = now_s
        elif self._used_s and now_s - self._used_s > _IDLE_S:
            self._used_s = 0.0
            for block in range(BLOCKS):
                self.memory.give_back(block)
            return True
        return False

    def _begin(self) -> None:
        self._session = secrets.randbits(31)
        self._send_quietly(Open(self._session))

    def _ask(self, reference: str, hold_s: float) -> _Loading:
        if not self._is_open:
            raise busy("the worker starts", _RETRY_S)
        number = next(self._numbers)
        loading = self._loading[reference] = _Loading(asyncio.get_running_loop().create_future(), hold_s)
        loading.held.add_done_callback(_heard)
        self._references[number] = reference
        self._control.send(AskModel(number, reference, hold_s, self.group))
        return loading

    def _still_loading(self, loading: _Loading) -> RequestError:
        left_s = loading.due_s - time.monotonic()
        left_s = left_s if left_s > 0 else _UNKNOWN_S
        detail = "the model is not in memory yet"
        retry_s = max(1.0, round(left_s))
        return RequestError("busy", detail, retry_s=retry_s, phase=loading.phase, eta_ms=round(left_s * 1000))

    def _send(self, message: Message) -> None:
        if not self._is_open:
            raise busy("the worker starts", _RETRY_S)
        try:
            self._channel.send(message)
        except ChannelClosedError:
            raise busy("the worker does not read", _RETRY_S) from None

    def _send_quietly(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ChannelClosedError as error:
            _log.warning("event=worker_does_not_read detail=%r", str(error))

    def _read(self) -> None:
        for _ in range(_READ_BATCH):
            message = self._channel.receive(0.0)
            if message is None:
                return
            self._take(message)

    def _take(self, message: FromRequests) -> None:
        match message:
            case WorkerStarted():
                self._lost("the worker started anew")
                self._begin()
            case Opened():
                if message.session == self._session:
                    self._is_open = True
                    self.turns.open()
            case Found() | Tensors() | NotInferred():
                self._answered(message)
            case Loading():
                self._told(message)
            case Held():
                self._end_loading(message.number, message.signature)
            case NotHeld():
                self._end_loading(message.number, _refusal(message.reason, message.detail))
            case Released():
                released = self._releasing.get(message.number)
                if released is not None and not released.done():
                    released.set_result(message.detail)

    def _answered(self, message: Inferred) -> None:
        under_way = self._under_way.pop(message.number, None)
        if under_way is None:
            return
        if under_way.answer.done():  # nobody waits for it any more
            self.turns.give_back(under_way.block)
        else:
            under_way.answer.set_result(message)

    def _told(self, message: Loading) -> None:
        loading = self._loading.get(self._references.get(message.number, ""))
        if loading is not None:
            loading.phase = message.phase
            loading.due_s = time.monotonic() + message.eta_ms / 1000 if message.eta_ms else 0.0

    def _end_loading(self, number: int, result: Signature | RequestError) -> None:
        reference = self._references.pop(number, "")
        loading = self._loading.pop(reference, None)
        if loading is None or loading.held.done():
            return
        if isinstance(result, RequestError):
            loading.held.set_exception(result)
            return
        self._known[reference] = _Known(result)
        self.changed_s[reference] = (True, time.monotonic())
        loading.held.set_result(result)

    def _from_control(self, message: Message) -> None:
        match message:
            case ModelRefused():
                self._end_loading(message.number, _refusal(message.reason, message.detail))
            case WorkerGone() if message.group == self.group:
                self._lost("the worker is lost")
                self._begin()  # because the next worker may be there already, and has said so

    def _lost(self, why: str) -> None:
        """Fail everything under way. What the worker had may be given again, once one has opened and forgotten it."""
        self._is_open = False
        self.turns.close()
        self._known.clear()
        self.changed_s.clear()
        for number in list(self._references):
            self._end_loading(number, busy(why, _RETRY_S))
        for under_way in self._under_way.values():
            if not under_way.answer.done():
                under_way.answer.set_exception(busy(why, _RETRY_S))
            self.turns.give_back(under_way.block)
        self._under_way.clear()
        for released in self._releasing.values():
            if not released.done():
                released.set_result("")  # a worker that is gone has no model in memory


def _refusal(reason: Reason, words: str) -> RequestError:
    detail = without_folders(words)
    if reason == "unknown_model":
        return RequestError("not_found", detail)
    return RequestError("busy", detail, retry_s=None if reason in _LASTING else _RETRY_S, phase=reason)


def _heard(held: "asyncio.Future[Signature]") -> None:
    """Have asyncio know that an error was seen, also where every request has gone."""
    if not held.cancelled():
        held.exception()
