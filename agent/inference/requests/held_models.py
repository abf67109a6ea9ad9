"""Models that are loaded and kept for requests, beside what lines want."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from msgspec.structs import replace as changed

from agent.inference.backends import Model
from agent.inference.memory.cache import Cache
from agent.inference.requests.signatures import signature_of
from agent.inference.swapping.load_job import Failure, LoadJob
from agent.inference.swapping.load_queue import LoadQueue
from agent.inference.swapping.turn_thread import TurnThread
from agent.messages.children import Message
from agent.messages.errors import ModelError, Reason
from agent.messages.references import ModelVersion
from agent.messages.web.holding import HoldModel
from agent.messages.web.requests import Held, Loading, NotHeld, Signature

_LOG: Final = logging.getLogger(__name__)
_MOST: Final = 64
"""Models that wait to be loaded for requests; a further one is refused."""
_REMEMBERED: Final = 256
_DETECTORS_FAULTS: Final[frozenset[Reason]] = frozenset({"load_failed", "proof_failed"})
"""Reasons of a failed load that may mean that the model is no detector."""
_GUESS_MS, _GUESS_MS_PER_MIB = 250.0, 4.0
"""Guess of the duration of a first load, by the file's size."""


@dataclass(frozen=True)
class _Hold:
    """A model on its way."""

    number: int
    version: ModelVersion
    until_s: float
    job: LoadJob
    began_s: float
    said: str = ""
    """The phase that was told last."""
    as_detector: Failure | None = None
    """The failure to load it as a detector; None before that."""

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until_s


class HeldModels:
    """Keeper of the models that requests asked for; answers each HoldModel once. Owner: the worker.

    A model whose outputs no head reads, and of which the catalog states neither task nor layout, is loaded again as one
    that answers raw tensors. Threading: every method may be called from any thread.
    """

    def __init__(self, loads: LoadQueue, cache: Cache[Model], send: Callable[[Message], None]) -> None:
        self._loads: Final = loads
        self._cache: Final = cache
        self._send: Final = send
        self._arrived: Final[list[HoldModel]] = []
        self._pending: list[_Hold] = []
        self._held: Final[OrderedDict[str, ModelVersion]] = OrderedDict()
        """The version that was loaded for a reference, the newest last."""
        self._took_ms: Final[dict[str, float]] = {}
        self._thread: Final = TurnThread("held models", loads.turn, self._step)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; what is under way stays unanswered."""
        self._thread.stop()

    def hold(self, message: HoldModel) -> None:
        """Load a model and keep it; returns at once."""
        with self._loads.turn:
            self._arrived.append(message)
            self._loads.turn.notify_all()

    def find(self, reference: str) -> ModelVersion | None:
        """Return what was loaded for `reference`, whether or not it is resident still."""
        with self._loads.turn:
            return self._held.get(reference)

    def _step(self) -> None:
        first_s = min((one.until_s for one in self._pending), default=None)
        with self._loads.turn:
            self._loads.turn.wait_for(self._has_news, None if first_s is None else max(0.0, first_s - time.monotonic()))
            arrived, self._arrived[:] = list(self._arrived), []
        if self._thread.is_stopping:
            return
        for message in arrived:
            version = self.find(message.model.reference)
            is_known = (
                version is not None and changed(version, is_tensors=False, golden=message.model.golden) == message.model
            )
            self._take(message, version if is_known and version is not None else message.model)
        self._pending = [left for one in self._pending if (left := self._look_at(one)) is not None]

    def _has_news(self) -> bool:
        moved = (one.job.is_done or _phase(one.job) != one.said for one in self._pending)
        return self._thread.is_stopping or bool(self._arrived) or any(moved)

    def _take(self, message: HoldModel, version: ModelVersion, as_detector: Failure | None = None) -> None:
        until_s = time.monotonic() + message.hold_s
        if len(self._pending) >= _MOST:
            self._send(NotHeld(message.number, "superseded", "too many models are being loaded"))
            return
        try:
            job = self._loads.keep_for_requests(version, until_s)
        except ModelError as error:
            self._send(NotHeld(message.number, error.reason, str(error)))
            return
        if job is None:
            self._tell_held(message.number, version)
        else:
            hold = _Hold(message.number, version, until_s, job, time.monotonic(), as_detector=as_detector)
            self._pending.append(self._tell_phase(hold))

    def _look_at(self, one: _Hold) -> _Hold | None:
        """Answer a hold whose load has ended; return it while it waits."""
        if one.job.entry is not None:
            self._took_ms[one.version.sha256] = 1000 * (time.monotonic() - one.began_s)
            self._tell_held(one.number, one.version)
            return None
        if one.job.failure is not None:
            return self._after_failure(one, one.job.failure)
        if one.is_over:
            self._send(NotHeld(one.number, "timeout", f"{one.version.reference} was not loaded in time"))
            return None
        return self._tell_phase(one)

    def _after_failure(self, one: _Hold, failure: Failure) -> _Hold | None:
        """Try a model that is no detector as one that answers tensors; answer any other failure."""
        version, is_silent = one.version, not (one.version.task or one.version.layout)
        if (
            isinstance(failure, ModelError)
            and failure.reason in _DETECTORS_FAULTS
            and is_silent
            and not version.is_tensors
        ):
            tensors = changed(version, is_tensors=True, golden=None)
            try:
                job = self._loads.keep_for_requests(tensors, one.until_s)
            except ModelError:
                job = None
            if job is not None:
                return replace(one, version=tensors, job=job, as_detector=failure)
        detail = str(failure)
        if one.as_detector is not None:
            detail = f"{one.as_detector}; and as a model that answers tensors: {failure}"
        self._send(NotHeld(one.number, failure.reason, detail))
        return None

    def _tell_held(self, number: int, version: ModelVersion) -> None:
        signature: Signature | None = None
        with self._cache.borrowed(version, is_request=True) as model:
            if model is not None:
                signature = signature_of(model, version)
        if signature is None:
            self._send(NotHeld(number, "no_memory", f"{version.reference}: a line took its memory"))
            return
        with self._loads.turn:
            self._held.pop(version.reference, None)
            self._held[version.reference] = version
            if len(self._held) > _REMEMBERED:
                self._held.popitem(last=False)
        self._send(Held(number, version.reference, signature))

    def _tell_phase(self, one: _Hold) -> _Hold:
        phase = _phase(one.job)
        if phase != one.said:
            took_ms = self._took_ms.get(one.version.sha256) or _guess_ms(one.version)
            self._send(Loading(one.number, phase, round(took_ms)))
        return replace(one, said=phase)


def _phase(job: LoadJob) -> Literal["queued", "preparing", "loading"]:
    if job.is_preparing:
        return "preparing"
    return "loading" if job.is_running else "queued"


def _guess_ms(version: ModelVersion) -> float:
    try:
        return _GUESS_MS + _GUESS_MS_PER_MIB * Path(version.path).stat().st_size / (1 << 20)
    except OSError:
        return 0.0
