"""The model that all runtimes share: a pool of requests around one head."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from agent.inference.artifacts.profile import Profile
from agent.inference.backends.errors import InferenceError, inferring
from agent.inference.backends.in_flight import InFlightLimiter
from agent.inference.yolo.head import Head
from agent.inference.yolo.letterbox import Canvas, Placement
from agent.inference.yolo.objects import Objects

Untyped: TypeAlias = Any  # an object of a runtime that ships no types
During: TypeAlias = AbstractContextManager[object]
_NOBODY: Final[During] = nullcontext()
_Decode: TypeAlias = Callable[[NDArray[np.floating], Placement], Objects]

UNMEASURED: Final = Profile()


class Request(Protocol):
    """One inference at a time, with the buffers that it needs."""

    canvas: Canvas

    def run(self, *, here: bool = False) -> NDArray[np.floating]:
        """Infer what is on the canvas; the raw output stays valid until the next run.

        `here`: with the calling thread among those that compute, so that its priority counts.
        """


@dataclass(frozen=True)
class Waiting:
    """A picture on a request's canvas: what every backend here prepares."""

    request: Request
    placement: Placement


class Detector:
    """A Model over a runtime that answers raw outputs.

    There is a request for each place, made with it: what a model takes is known when it is loaded. Callers without a
    place may need more; those are kept too.
    """

    def __init__(  # noqa: PLR0913 - what a runtime brings, spelt out
        self,
        backend: str,
        head: Head,
        imgsz: tuple[int, int],
        make_request: Callable[[], Request],
        *,
        on_close: Callable[[], None] = lambda: None,
        profile: Profile = UNMEASURED,
    ) -> None:
        """`make_request` alone holds the runtime's model; `on_close` runs once that is dropped.

        `profile` is that of the artifact that it was made from: so many `requests` the runtime infers together; of
        others it takes the one that it was asked for first.
        """
        self.backend: Final = backend
        self.names: Final = head.names
        self.imgsz: Final = imgsz
        self.profile: Final = profile
        self.places: Final = InFlightLimiter(max(1, profile.requests))
        self._head: Final = head
        self._make_request: Callable[[], Request] | None = make_request
        self._on_close: Final = on_close
        self._idle: Final = [make_request() for _ in range(self.places.count)]
        self._lock: Final = threading.Lock()

    def prepare(self, image: NDArray[np.uint8]) -> Waiting:
        """Letterbox `image`; see Model."""
        with inferring(self._head.reference):
            request = self._take()
            return Waiting(request, request.canvas.draw(image, self._head.fit))

    def answer(self, prepared: object, during: During = _NOBODY) -> Objects:
        """Infer and decode; see Model."""
        return self._answer(cast("Waiting", prepared), self._head.decode, during)

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        """Answer one picture; see Model."""
        return self.answer(self.prepare(image))

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        """Answer one picture, looking at every number; see Model."""
        return self._answer(self.prepare(image), self._decode_checked, _NOBODY, here=True)

    def close(self) -> None:
        """Drop the runtime's model, then its requests: the other way round it holds the GIL for long."""
        with self._lock:
            self._make_request = None
            self._idle.clear()
        self._on_close()

    def _answer(self, waiting: Waiting, decode: _Decode, during: During, *, here: bool = False) -> Objects:
        with inferring(self._head.reference):
            with during:
                raw = waiting.request.run(here=here)
            objects = decode(raw, waiting.placement)
        self._give_back(waiting.request)
        return objects

    def _decode_checked(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        self._head.require_right(raw)
        return self._head.decode(raw, placement)

    def _take(self) -> Request:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            make_request = self._make_request
        if make_request is None:
            raise InferenceError(f"{self._head.reference}: is closed")
        return make_request()

    def _give_back(self, request: Request) -> None:
        with self._lock:
            if self._make_request is not None:
                self._idle.append(request)
