"""The implementation of `Model` that all runtimes share: a pool of inference requests, and one output decoder."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from agent.inference.artifacts.profile import Profile
from agent.inference.backends.errors import InferenceError, inferring
from agent.inference.backends.in_flight import InFlightLimiter
from agent.inference.yolo.head import Head, Raw
from agent.inference.yolo.letterbox import Canvas, Placement
from agent.inference.yolo.objects import Objects
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor

Untyped: TypeAlias = Any  # an object of a runtime that ships no types
During: TypeAlias = AbstractContextManager[object]
_NOBODY: Final[During] = nullcontext()
_Read = TypeVar("_Read")
_Decode: TypeAlias = Callable[[Raw, Placement], _Read]

UNMEASURED: Final = Profile()
_SAMPLES: Final = 65_536
"""About so many numbers are kept of an output, because dozens of pictures' prototypes would take hundreds of MB."""


class Request(Protocol):
    """An inference request of a runtime, with its input and output buffers; it runs one inference at a time."""

    canvas: Canvas

    def run(self, *, here: bool = False) -> Raw:
        """Infer the picture on the canvas; return the raw outputs that the head reads, valid until the next run.

        `here`: the calling thread takes part in the inference, so that its priority applies.
        """


@dataclass(frozen=True)
class Waiting:
    """A picture drawn on a request's canvas; the `Prepared` of every backend."""

    request: Request
    placement: Placement


@dataclass(frozen=True)
class Look:
    """A model's findings in one picture, before and after suppression."""

    objects: Objects
    candidates: Objects
    """The strongest ones, whatever their score."""
    others: Raw = ()
    """Samples of the outputs that no candidate has as its own, such as the prototypes of masks, each (numbers,)."""


class Detector:
    """A `Model` over a runtime that returns raw outputs.

    A load creates one request for each slot of `places`, so that the model's memory can be measured then. Callers
    without a slot may cause further requests, which are kept.
    """

    def __init__(  # noqa: PLR0913 - what a runtime brings, spelt out
        self,
        backend: str,
        head: Head,
        imgsz: tuple[int, int],
        make_request: Callable[[], Request],
        *,
        processor: ModelProcessor,
        on_close: Callable[[], None] = lambda: None,
        profile: Profile = UNMEASURED,
        count_device: Callable[[], int | None] = lambda: 0,
    ) -> None:
        """Create the requests. Only `make_request` refers to the runtime's model; `on_close` runs after its release.

        `processor` is what the runtime reports after the load. `profile` is the artifact's; its `requests` is the
        number of inferences that the runtime runs at the same time. `count_device` returns the model's `device_bytes`,
        also after the close.
        """
        self.backend: Final = backend
        self.processor: Final = processor
        self.names: Final = head.names
        self.head: Final = head
        self.imgsz: Final = imgsz
        self.reading: Final = head.reading
        self.profile: Final = profile
        self.places: Final = InFlightLimiter(max(1, profile.requests))
        self._make_request: Callable[[], Request] | None = make_request
        self._on_close: Final = on_close
        self._count_device: Final = count_device
        self._idle: Final = [make_request() for _ in range(self.places.count)]
        self._lock: Final = threading.Lock()
        self._refusal = ""
        """Reason why the model answers no picture any more; empty while it does."""

    @property
    def device_bytes(self) -> int | None:
        """Implement `Model.device_bytes`."""
        return self._count_device()

    def prepare(self, image: NDArray[np.uint8]) -> Waiting:
        """Implement `Model.prepare`."""
        if self._refusal:
            raise ModelError("proof_failed", self._refusal)
        with inferring(self.head.reference):
            request = self._take()
            return Waiting(request, request.canvas.draw(image, self.head.fit))

    def answer(self, prepared: object, during: During = _NOBODY, *, here: bool = False) -> Objects:
        """Implement `Model.answer`."""
        return self._answer(cast("Waiting", prepared), self.head.decode, during, here=here)

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        """Implement `Model.infer`."""
        return self.answer(self.prepare(image))

    def find(
        self, image: NDArray[np.uint8], confidence: float | None, iou: float | None, during: During = _NOBODY
    ) -> Objects:
        """Infer like `infer`, with other thresholds than the catalog's where they are given, each from 0 to 1.

        `during` wraps the inference only.
        """
        head = replace(
            self.head,
            confidence=self.head.confidence if confidence is None else confidence,
            iou=self.head.iou if iou is None else iou,
        )
        return self._answer(self.prepare(image), head.decode, during)

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        """Implement `Model.check_outputs`."""
        return self._answer(self.prepare(image), self._decode_checked, _NOBODY, here=True)

    def look(self, image: NDArray[np.uint8]) -> Look:
        """Infer like `check_outputs`; return the strongest candidates beside the objects."""
        return self._answer(self.prepare(image), self._decode_all, _NOBODY, here=True)

    def refuse(self, why: str) -> None:
        """Implement `Model.refuse`."""
        self._refusal = why

    def close(self) -> None:
        """Release the runtime's model, then its requests, because the reverse order holds the GIL for long."""
        with self._lock:
            self._make_request = None
            self._idle.clear()
        self._on_close()

    def _answer(self, waiting: Waiting, decode: _Decode[_Read], during: During, *, here: bool = False) -> _Read:
        with inferring(self.head.reference):
            with during:
                raw = waiting.request.run(here=here)
            read = decode(raw, waiting.placement)
        self._give_back(waiting.request)
        return read

    def _decode_checked(self, raw: Raw, placement: Placement) -> Objects:
        self.head.require_right(raw)
        return self.head.decode(raw, placement)

    def _decode_all(self, raw: Raw, placement: Placement) -> Look:
        others = tuple(one.ravel()[:: one.size // _SAMPLES | 1].astype(np.float32) for one in raw[1:])
        return Look(self._decode_checked(raw, placement), self.head.strongest(raw, placement), others)

    def _take(self) -> Request:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            make_request = self._make_request
        if make_request is None:
            raise InferenceError(f"{self.head.reference}: is closed")
        return make_request()

    def _give_back(self, request: Request) -> None:
        with self._lock:
            if self._make_request is not None:
                self._idle.append(request)
