"""Infers requests one after the other, each where the lines leave enough time."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import numpy as np

from agent.inference.backends import InferenceError, Model
from agent.inference.backends.detector import Detector
from agent.inference.backends.tensors.tensor_model import Array, TensorModel, WrongTensorsError
from agent.inference.memory import process_memory
from agent.inference.memory.cache import Cache
from agent.inference.requests import tensor_blocks
from agent.inference.requests.estimates import Estimates, Measured
from agent.inference.requests.held_models import HeldModels
from agent.inference.serving.slack import Gap
from agent.inference.serving.stream_pipeline import Outlet
from agent.inference.yolo.detections import objects_of, top_of
from agent.inference.yolo.objects import Objects
from agent.messages.children import Message
from agent.messages.errors import ChangeoverError
from agent.messages.payloads import DetectedObject, ScoredLabel
from agent.messages.web.requests import Found, InferPicture, InferTensors, NotInferred, Open, Opened, Tensors
from agent.processes.slots.request_memory import BLOCK_BYTES, BLOCKS, RequestMemory
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_CHANNELS: Final = 3
_GRACE_S: Final = 10.0
_PATIENCE_NS: Final = 100_000_000
"""Time for which a request waits for a gap before the next one is looked at."""

Inference = InferPicture | InferTensors


class Answer(msgspec.Struct, frozen=True):
    """JSON of what was found in a picture, as a detections message has it."""

    model: str
    width: int
    height: int
    objects: list[DetectedObject]
    top: list[ScoredLabel] | msgspec.UnsetType = msgspec.UNSET


class RequestRunner:
    """Thread that infers requests in the order in which they come. Owner: the worker.

    The web process takes turns between clients; here one inference at a time waits for the lines' slack.
    """

    def __init__(
        self,
        memory: RequestMemory,
        held: HeldModels,
        cache: Cache[Model],
        outlet: Outlet,
        send: Callable[[Message], None],
    ) -> None:
        self._memory: Final = memory
        self._held: Final = held
        self._cache: Final = cache
        self._outlet: Final = outlet
        self._send: Final = send
        self._changed: Final = threading.Condition()
        self._waiting: Final[deque[Inference | Open]] = deque()
        self._is_stopping = False
        self._clock_ns: Final = outlet.slack.clock_ns
        self._estimates: Final = Estimates(self._clock_ns)
        self._thread: Final = RestartedThread(self._run, "requests")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its inference; requests that wait stay unanswered."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._outlet.slack.stop()
        self._thread.join()

    def put(self, message: Inference | Open) -> None:
        """Enqueue a request; one beyond the number of blocks is refused. `Open` forgets those that wait."""
        with self._changed:
            if isinstance(message, Open):
                self._waiting.clear()
            elif len(self._waiting) >= BLOCKS:
                self._send(NotInferred(message.number, "invalid", "more requests than blocks"))
                return
            self._waiting.append(message)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or bool(self._waiting))
                if self._is_stopping:
                    return
                message = self._waiting.popleft()
            answer = Opened(message.session) if isinstance(message, Open) else self._answer(message)
            if answer is not None:
                self._send(answer)

    def _answer(self, message: Inference) -> Message | None:
        """Return the answer to a request, whatever it holds; None where it waits for a longer gap."""
        try:
            return self._infer(message)
        except WrongTensorsError as error:
            return NotInferred(message.number, "invalid", str(error))
        except InferenceError as error:
            # With tensors the runtime's refusal is of their shapes or values, as far as it says.
            return NotInferred(message.number, "invalid" if isinstance(message, InferTensors) else "failed", str(error))
        except ChangeoverError as error:
            return NotInferred(message.number, "failed", str(error))
        except Exception as error:  # noqa: BLE001 - the loop's edge: a request must not end the thread
            _LOG.exception("event=request_failed model=%r", message.reference[:200])
            return NotInferred(message.number, "failed", type(error).__name__)

    def _infer(self, message: Inference) -> Message | None:
        version = self._held.find(message.reference)
        if version is None:
            return NotInferred(message.number, "gone", f"{message.reference} is not loaded")
        with self._cache.borrowed(version, is_request=True) as model:
            if model is None:
                return NotInferred(message.number, "gone", f"{message.reference}: a line took its memory")
            if self._clock_ns() >= message.deadline_ns:  # nobody waits for it any more
                return NotInferred(message.number, "busy", f"those before it took too long for {message.reference}")
            size_bytes, proof = _size_bytes(message, model), _proof(model)
            needed_ns = self._estimates.needed_ns(message.reference, size_bytes, proof)
            last_ns = self._estimates.last_ns(message.reference, size_bytes, proof, message.deadline_ns)
            is_hopeless = not self._outlet.slack.has_room(last_ns)
            gap = Gap.TOO_SHORT if is_hopeless else self._wait(message, needed_ns)
            if gap is not Gap.FOUND:
                if gap is Gap.TOO_SHORT:
                    self._estimates.passed_over(message.reference, size_bytes, proof)
                elif gap is Gap.UNPAID:
                    self._estimates.would_fit(message.reference, size_bytes, proof)
                if not is_hopeless and self._clock_ns() < message.deadline_ns:
                    self._put_back(message)
                    return None
                detail = f"the lines leave no {needed_ns / 1e6:.0f} ms for an inference of {message.reference}"
                return NotInferred(message.number, "busy", detail)
            forward = _Stopwatch(self._clock_ns)
            busy = self._outlet.busy(_GRACE_S, is_request=True)
            with busy, self._charged(message.reference, size_bytes, proof, forward):
                return self._run_model(message, model, forward)

    def _wait(self, message: Inference, needed_ns: float) -> Gap:
        """Wait for a gap between the lines' frames, for a while only, because another request may fit."""
        return self._outlet.slack.wait(needed_ns, min(message.deadline_ns, self._clock_ns() + _PATIENCE_NS))

    @contextmanager
    def _charged(self, reference: str, size_bytes: int, proof: Measured, forward: "_Stopwatch") -> Iterator[None]:
        """Count the block's time until the network's end as that of a request's inference, also where it raises.

        What is decoded after that runs beside the next frame, as a line's own answers do.
        """
        began_ns, has_failed = self._clock_ns(), True
        try:
            yield
            has_failed = False
        finally:
            ended_ns = self._clock_ns()
            took_ns = (forward.ended_ns or ended_ns) - began_ns
            ran, fits = Measured(size_bytes, took_ns), self._outlet.slack.has_room(took_ns)
            self._estimates.ended(reference, ran, proof, fits=fits, has_failed=has_failed)
            self._outlet.slack.spent(began_ns, forward.ended_ns)

    def _put_back(self, message: Inference) -> None:
        with self._changed:
            if not any(isinstance(one, Open) for one in self._waiting):
                self._waiting.append(message)

    def _run_model(self, message: Inference, model: Model, forward: "_Stopwatch") -> Message:
        """Infer, write the answer into the request's block, and return its message."""
        block = self._memory.block(message.block)
        if isinstance(message, InferTensors):
            if not isinstance(model, TensorModel):
                raise WrongTensorsError(f"{message.reference} takes a picture, no tensors")
            try:
                with forward:
                    answers = model.run(tensor_blocks.read(message, block), message.outputs)
            finally:
                if model.gave_back:
                    process_memory.trim()
            return Tensors(message.number, message.reference, tensor_blocks.write(answers, block), forward.ms)
        if isinstance(model, TensorModel):
            raise WrongTensorsError(f"{message.reference} takes tensors, no picture")
        found = _find(model, message, _picture(message, block), forward)
        size = _tell(found.resized((message.height, message.width), message.of), model.names, message, block)
        return Found(message.number, message.reference, size, forward.ms)


def _size_bytes(message: Inference, model: Model) -> int:
    """Return the bytes of a request's tensors; 0 for a picture, because a detector resizes each to its own size."""
    if not isinstance(message, InferTensors) or not isinstance(model, TensorModel):
        return 0
    return sum(max(0, one.bytes) for one in message.inputs)


def _proof(model: Model) -> Measured:
    if isinstance(model, TensorModel):
        return Measured(model.proof_bytes, model.proof_ns)
    return Measured(0, model.places.usual_s * 1e9)


def _picture(message: InferPicture, block: memoryview) -> Array:
    """Return a view of the picture in a block. Raises WrongTensorsError for an impossible size."""
    sides = (message.height, message.width)
    if min(*sides, *message.of) <= 0 or sides[0] * sides[1] * _CHANNELS > BLOCK_BYTES:
        raise WrongTensorsError(f"a picture of {sides[1]} x {sides[0]} does not fit a block")
    size_bytes = sides[0] * sides[1] * _CHANNELS
    return np.frombuffer(block, np.uint8, size_bytes).reshape(*sides, _CHANNELS)


class _Stopwatch:
    """Context manager that measures its block."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self.ended_ns = 0
        """End of the block; 0 before it."""
        self._clock_ns: Final = clock_ns
        self._began_ns = 0

    @property
    def ms(self) -> float:
        return round((self.ended_ns - self._began_ns) / 1e6, 3)

    def __enter__(self) -> None:
        self._began_ns = self._clock_ns()

    def __exit__(self, *_: object) -> None:
        self.ended_ns = self._clock_ns()


def _find(model: Model, message: InferPicture, picture: Array, forward: _Stopwatch) -> Objects:
    """Infer a picture, with other thresholds than the catalog's where the request has some."""
    if isinstance(model, Detector) and (message.confidence is not None or message.iou is not None):
        return model.find(picture, message.confidence, message.iou, forward)
    return model.answer(model.prepare(picture), forward)


def _tell(found: Objects, names: tuple[str, ...], message: InferPicture, block: memoryview) -> int:
    """Write objects as JSON to the start of a block; return the number of bytes."""
    height, width = message.of
    answer = Answer(message.reference, width, height, objects_of(found, names), top_of(found, names))
    text = msgspec.json.encode(answer)
    if len(text) > BLOCK_BYTES:
        raise WrongTensorsError("the answer does not fit a block")
    block[: len(text)] = text
    return len(text)
