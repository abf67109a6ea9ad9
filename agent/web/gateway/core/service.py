"""The requests of both transports, from a known client to the worker and back."""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import msgspec

from agent.messages.web import byte_elements
from agent.messages.web.open_sides import beyond_bound
from agent.messages.web.requests import Found, InferPicture, InferTensors, NotInferred, Port, Signature, Tensors
from agent.web.gateway.core import tensors
from agent.web.gateway.core.catalog import CatalogView, Version
from agent.web.gateway.core.clients import Client, Clients
from agent.web.gateway.core.counting import Counted, Counting
from agent.web.gateway.core.faults import RequestError, busy, invalid, without_folders
from agent.web.gateway.core.held_bytes import Held, HeldBytes
from agent.web.gateway.core.pictures.headers import MEDIA, media_of
from agent.web.gateway.core.tensors import Tensor
from agent.web.gateway.core.wishes import Wish
from agent.web.gateway.core.worker_link import Inferred, Numbered, WorkerLink

EXTENSIONS: Final = ("binary_tensor_data", "model_repository", "model_repository(unload_dependents)")
LOAD_WAIT_S: Final = 10.0
"""Longest wait of a request for a model that is not in memory."""
EXPLICIT_WAIT_S: Final = 120.0
"""Longest wait of a call that only loads or unloads a model."""
EXPLICIT_HOLD_S: Final = 1800.0
_TURN_S: Final = 10.0
"""Longest wait of a request for its turn, and then for the lines' slack."""
_ATTEMPTS: Final = 3
"""A line may take the memory of a model between a request's load and its inference."""
MOST_BYTES: Final = 32 << 20
_ASIDE_BYTES: Final = 64 << 10
_LAG_S: Final = 3.0
_IMAGE: Final = "image"
_ABSENT: Final = "UNAVAILABLE"
_REASONS: Final = {_ABSENT: "it is loaded at the first request"}
_BATCHED: Final = 4
"""Sides of a picture with its batch."""
_Read = TypeVar("_Read")
_Size: TypeAlias = tuple[int, int]
_Put: TypeAlias = Callable[[memoryview], tuple[_Size, _Size]]
"""Puts a picture into a block; returns height and width there, and those of the picture itself."""


class _Row(msgspec.Struct):
    label: str
    score: float
    class_: int = msgspec.field(name="class")
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class _Answer(msgspec.Struct):
    objects: list[msgspec.Raw]
    top: list[msgspec.Raw] | None = None


@dataclass(frozen=True)
class Detected:
    """The objects in a picture: the worker's JSON with `objects`, `model`, `width`, `height`."""

    text: bytes
    decode_ms: float
    """Time to decode the picture and copy it to the worker."""
    infer_ms: float
    """Time of the network alone."""


@dataclass(frozen=True)
class Admitted:
    """A request of a known client, under way."""

    client: Client
    counted: Counted
    held: Held
    """Its body or answer in memory."""


class GatewayService:
    """The calls of a client, whatever the transport. For the event loop's thread."""

    def __init__(
        self, clients: Clients, catalog: CatalogView, counting: Counting, links: dict[str, WorkerLink]
    ) -> None:
        self.clients: Final = clients
        self.catalog: Final = catalog
        self.counting: Final = counting
        self._links: Final = links
        self._held: Final = {group: HeldBytes(count) for group, count in clients.counts().items()}
        """Ledger of each group, because the groups share no memory."""
        self._threads: Final = ThreadPoolExecutor(2, "request")

    @contextmanager
    def request(self, authorization: str, subject: str) -> Iterator[Admitted]:
        """Run the block as one request of an authenticated client, counted. Raises RequestError."""
        with self.counting.request() as counted:
            client = self.clients.authenticated(authorization, subject)
            counted.client = client.name
            with client.admitted(), self._held[client.group].of(client.name) as held:
                yield Admitted(client, counted, held)

    async def aside(self, size_bytes: int, make: Callable[[], _Read]) -> _Read:
        """Return what `make` makes of so many bytes: on a thread where they are many, because others wait meanwhile."""
        if size_bytes <= _ASIDE_BYTES:
            return make()
        return await asyncio.get_running_loop().run_in_executor(self._threads, make)

    def is_ready(self, client: Client) -> bool:
        """Return True where the worker of a client's group answers."""
        link = self._links.get(client.group)
        return link is not None and link.is_open

    def is_model_ready(self, client: Client, one: Version) -> bool:
        """Return True where a model is in the memory of a client's group."""
        return self.state(client, one) == "READY"

    def state(self, client: Client, one: Version) -> str:
        """Return the state of a model for a client's group: READY, LOADING, UNLOADING or UNAVAILABLE."""
        link = self._links.get(client.group)
        if link is None:
            return _ABSENT
        is_resident, changed_s = link.changed_s.get(one.reference, (False, 0.0))
        if time.monotonic() - changed_s < _LAG_S:
            return "READY" if is_resident else _ABSENT
        return self.catalog.states(client.group).get(one.reference, _ABSENT)

    def index(self, client: Client, *, only_ready: bool) -> list[dict[str, str]]:
        """Return a row of the repository's index for each version that exists for a client."""
        rows = [(one, self.state(client, one)) for one in self.catalog.seen_by(client)]
        return [
            {"name": one.path, "version": one.version, "state": state, "reason": _REASONS.get(state, "")}
            for one, state in rows
            if state == "READY" or not only_ready
        ]

    async def signature(self, client: Client, one: Version, wait_s: float = LOAD_WAIT_S) -> Signature:
        """Return what a model takes and gives, once it is in memory. Raises RequestError."""
        return await self._link(client).held(one.reference, wait_s)

    async def load(self, client: Client, one: Version) -> None:
        """Load a model, and keep it; returns when it is in memory and proven. Raises RequestError."""
        await self._link(client).held(one.reference, EXPLICIT_WAIT_S, EXPLICIT_HOLD_S)

    async def unload(self, client: Client, one: Version) -> None:
        """Unload a model and its older versions; returns when their bytes are back.

        Raises RequestError where a line keeps the model; an older version may stay with a line.
        """
        link = self._link(client)
        for other in self.catalog.seen_by(client):
            if other.path == one.path and other != one and self.state(client, other) != _ABSENT:
                try:
                    await link.release(other.reference, EXPLICIT_WAIT_S)
                except RequestError as error:
                    if error.kind != "invalid":
                        raise
        await link.release(one.reference, EXPLICIT_WAIT_S)

    async def detect(self, client: Client, one: Version, content: bytes, wish: Wish) -> Detected:
        """Find the objects in an encoded picture. Raises RequestError."""
        if not media_of(content):
            raise RequestError("media", f"the body is none of {', '.join(MEDIA)}")
        signature = await self.signature(client, one)
        if not signature.is_detector:
            raise invalid(f"{one.path} takes tensors, no pictures: see /v2/models/{one.path}")
        _require_allowed(wish, signature)
        return await self._detect(client, one, lambda block: _decode(content, block), wish)

    async def infer(self, client: Client, one: Version, inputs: list[Tensor], wish: Wish) -> list[Tensor]:
        """Infer tensors; a detector takes one picture, and its objects are tensors too. Raises RequestError."""
        signature = await self.signature(client, one)
        _require_known(wish.outputs, signature.outputs)
        if signature.is_detector:
            _require_allowed(wish, signature)
            found = await self._detect(client, one, _picture_of(inputs), wish)
            return _as_tensors(found, signature, wish.outputs)
        if any(one is not None for one in (wish.confidence, wish.iou, wish.imgsz)):
            raise invalid("parameters: confidence, iou and imgsz are for models that find objects")
        _require_fitting(inputs, signature)

        def write(block: memoryview) -> Numbered:
            placed = tensors.place(inputs, block)
            return lambda number, at: InferTensors(number, at, one.reference, placed, wish.outputs, _deadline_ns())

        return await self._in_block(client, one, write, _outputs)

    async def _detect(self, client: Client, one: Version, put: _Put, wish: Wish) -> Detected:
        decode_ms = 0.0

        def write(block: memoryview) -> Numbered:
            nonlocal decode_ms
            began_s = time.monotonic()
            (height, width), of = put(block)
            decode_ms = (time.monotonic() - began_s) * 1000
            return lambda number, at: InferPicture(
                number, at, one.reference, height, width, of, _deadline_ns(), wish.confidence, wish.iou
            )

        def read(answer: Inferred, block: memoryview) -> Detected:
            assert isinstance(answer, Found), "it is the answer to InferPicture"
            return Detected(bytes(block[: answer.bytes]), decode_ms, answer.infer_ms)

        return await self._in_block(client, one, write, read)

    async def _in_block(
        self,
        client: Client,
        one: Version,
        write: Callable[[memoryview], Numbered],
        read: Callable[[Inferred, memoryview], _Read],
    ) -> _Read:
        """Have `write` fill a block, the worker infer it, and `read` take the answer out of it."""
        link = self._link(client)
        for _ in range(_ATTEMPTS):
            await link.held(one.reference, LOAD_WAIT_S)
            block = await link.turns.take(client.name, _TURN_S)
            view = link.memory.block(block)
            answer = await link.infer(block, await self._written(link, block, view, write), _TURN_S)
            try:
                if not isinstance(answer, NotInferred):
                    return read(answer, view)
            finally:
                link.turns.give_back(block)
            if answer.fault != "gone":
                raise _refusal(answer)
            link.forget(one.reference)
        raise busy("lines take the memory of the model again and again", 10.0)

    async def _written(
        self, link: WorkerLink, block: int, view: memoryview, write: Callable[[memoryview], Numbered]
    ) -> Numbered:
        """Run `write` on a thread; gives the block back where it fails, and once it has ended where nobody waits."""
        writing = asyncio.get_running_loop().run_in_executor(self._threads, write, view)
        try:
            return await asyncio.shield(writing)
        except BaseException:
            writing.add_done_callback(lambda ended: _given_back(link, block, ended))
            raise

    def _link(self, client: Client) -> WorkerLink:
        link = self._links.get(client.group)
        if link is None:  # never another group's, whose memory and time are not this client's
            raise busy(f"no worker serves the group {client.group} of client {client.name}", 10.0)
        return link


def _given_back(link: WorkerLink, block: int, ended: "asyncio.Future[Numbered]") -> None:
    if not ended.cancelled():
        ended.exception()
    link.turns.give_back(block)


def _deadline_ns() -> int:
    return time.monotonic_ns() + int(_TURN_S * 1e9)


def _outputs(answer: Inferred, block: memoryview) -> list[Tensor]:
    assert isinstance(answer, Tensors), "it is the answer to InferTensors"
    return tensors.take(answer.outputs, block)


def _refusal(answer: NotInferred) -> RequestError:
    detail = without_folders(answer.detail)
    if answer.fault == "busy":
        return busy(detail)
    return RequestError("invalid" if answer.fault == "invalid" else "failed", detail)


def _require_allowed(wish: Wish, signature: Signature) -> None:
    """Raise RequestError("invalid") that names a parameter which the model does not allow."""
    for name, value in (("confidence", wish.confidence), ("iou", wish.iou)):
        if value is not None and not 0 < value <= 1:
            raise invalid(f"parameters: {name} is {value:g}, expected a number above 0, at most 1")
    if wish.imgsz is not None and (wish.imgsz, wish.imgsz) != signature.imgsz:
        height, width = signature.imgsz
        own = str(height) if height == width else f"its own size of {width} x {height}, so leave it out"
        raise invalid(f"parameters: imgsz is {wish.imgsz}; this model allows {own}")


def _require_known(wanted: tuple[str, ...], outputs: tuple[Port, ...]) -> None:
    names = [port.name for port in outputs]
    for name in wanted:
        if name not in names:
            raise invalid(f"outputs: no {name[:64]!r}; there are {', '.join(names)}")


def _require_fitting(inputs: list[Tensor], signature: Signature) -> None:
    """Raise RequestError("invalid") unless there is one input for each of the model's, that fits it and its bound."""
    ports = signature.inputs
    given = {one.name: one for one in inputs}
    names = ", ".join(port.name for port in ports)
    if len(given) != len(inputs):
        raise invalid("inputs: a name comes twice")
    for one in inputs:
        if one.name not in {port.name for port in ports}:
            raise invalid(f"inputs: no {one.name[:64]!r}; there are {names}")
    for port in ports:
        if port.name not in given:
            raise invalid(f"inputs: {port.name!r} is missing; there are {names}")
        tensors.require_fitting(given[port.name], port)
    if wrong := beyond_bound(((one.name, given[one.name].shape, one.shape) for one in ports), signature.most_open):
        raise invalid(wrong)


def _picture_of(inputs: list[Tensor]) -> _Put:
    """Return what puts a detector's only input into a block: RGB pixels, or an encoded picture as BYTES."""
    if len(inputs) != 1 or inputs[0].name != _IMAGE:
        raise invalid(f"inputs: one input {_IMAGE!r} is expected, UINT8 [height, width, 3] RGB, or BYTES [1]: a JPEG")
    one = inputs[0]
    if one.datatype == tensors.BYTES:
        found = tensors.split(one.raw, _IMAGE)
        if len(found) != 1 or not media_of(found[0]):
            raise invalid(f"inputs: {_IMAGE!r} as BYTES holds one picture: {', '.join(MEDIA)}")
        return lambda block: _decode(found[0], block)
    shape = one.shape[1:] if len(one.shape) == _BATCHED and one.shape[0] == 1 else one.shape
    fits = one.datatype == "UINT8" and len(shape) == _BATCHED - 1 and shape[-1] == _BATCHED - 1 and min(shape) > 0
    if not fits:
        found_as = f"{one.datatype} {list(one.shape)}"
        raise invalid(f"inputs: {_IMAGE!r} is {found_as}, expected UINT8 [height, width, 3], or [1, height, width, 3]")
    return lambda block: _put(one.raw, (shape[1], shape[0]), block)


def _decode(content: bytes, block: memoryview) -> tuple[_Size, _Size]:
    from agent.web.gateway.core.pictures import decoding  # noqa: PLC0415 - as its docstring says

    return decoding.decode(content, block)


def _put(pixels: bytes | memoryview, size: _Size, block: memoryview) -> tuple[_Size, _Size]:
    from agent.web.gateway.core.pictures import decoding  # noqa: PLC0415 - as its docstring says

    return decoding.put(pixels, size, block)


def _as_tensors(found: Detected, signature: Signature, wanted: tuple[str, ...]) -> list[Tensor]:
    """Return objects as tensors: boxes, scores, classes, labels, and as JSON where boxes do not say all."""
    answer = msgspec.json.decode(found.text, type=_Answer)
    rows = answer.top if answer.top is not None else answer.objects
    count = len(rows)
    fields = [msgspec.json.decode(row, type=_Row) for row in rows]
    boxes = struct.pack(f"<{4 * count}f", *(side for row in fields for side in row.box)) if answer.top is None else b""
    made = {
        "boxes": Tensor("boxes", "FP32", (count, 4), boxes),
        "scores": Tensor("scores", "FP32", (count,), struct.pack(f"<{count}f", *(row.score for row in fields))),
        "classes": Tensor("classes", "INT32", (count,), struct.pack(f"<{count}i", *(row.class_ for row in fields))),
        "labels": Tensor("labels", tensors.BYTES, (count,), byte_elements.joined(row.label.encode() for row in fields)),
        "objects": Tensor("objects", tensors.BYTES, (count,), byte_elements.joined(bytes(row) for row in rows)),
    }
    names = wanted or tuple(port.name for port in signature.outputs)
    return [made[name] for name in names]
