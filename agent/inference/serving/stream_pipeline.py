"""One stream: from its slot through its line's model to the pipe."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from agent.inference.backends import Model, Prepared
from agent.inference.serving.frame_loss import FrameLossCounter
from agent.inference.serving.line_gate import ActiveModelGate, Lease
from agent.inference.serving.sequencer import Sequencer
from agent.inference.yolo.detections import encode, objects_of
from agent.messages.children import Detections, InferenceFailed, Message, StageTimes, StreamProgress
from agent.messages.errors import ChangeoverError
from agent.processes.slots.frame_slot import Frame, SlotReader
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_LOOK_UP_S: Final = 0.25  # how often a thread without a frame or a model sees whether it should stop
_THREADS: Final = 4
"""Frames of one stream that can be in flight. How many are, the model's places decide; a thread too many waits."""


@dataclass(frozen=True)
class Outlet:
    """What a pipeline needs of its process: a way to control, and the mark of a call that could hang."""

    send: Callable[[Message], None]
    busy: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class _Taken:
    """A frame in hand, whose image is given back: drawn (`prepared`), or torn (None), or why it could not be drawn.

    `size`: height, width. `number`: its place in the order of the stream's answers.
    """

    number: int
    lease: Lease[Model]
    frame: Frame
    size: tuple[int, int]
    taken_ns: int
    prepared: Prepared | BaseException | None
    prepared_ns: int


class StreamPipeline:
    """The threads of one stream, named by it. Owner: the worker.

    It takes a frame only when the line's model has a place for it: until then the slot keeps the newest frame and
    counts what it overwrites, and a source that waits for its reader waits. One thread takes and draws at a time; while
    one frame is inferred another is drawn, decoded or sent. Answers leave in the order in which frames were taken.
    """

    def __init__(
        self, stream: str, slot: SlotReader, line: ActiveModelGate[Model], tally: FrameLossCounter, outlet: Outlet
    ) -> None:
        self._stream: Final = stream
        self._slot: Final = slot
        self._line: Final = line
        self._tally: Final = tally
        self._outlet: Final = outlet
        self._failed_in_a_row = 0
        self._failing = ""  # the reference that they failed by
        self._taken_ns = 0
        self._answered_ns = 0
        self._missed_ns = 0
        self._missed = 0  # frames taken since the last answer that got none
        self._stopping: Final = threading.Event()
        self._taking: Final = threading.Lock()
        self._order: Final = Sequencer()
        names = [f"{stream} {number}" for number in range(_THREADS)]
        self._threads: Final = [RestartedThread(self._run, name) for name in names]

    def start(self) -> None:
        """Begin to take frames."""
        for thread in self._threads:
            thread.start()

    def progress(self) -> StreamProgress:
        """Say when a frame was last taken and last answered, and what became of those since. From any thread."""
        return StreamProgress(self._stream, self._taken_ns, self._answered_ns, self._missed_ns, self._missed)

    def stop(self) -> None:
        """Return when the frames in hand were answered."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._step()

    def _step(self) -> None:
        """Bring one frame through; a function of its own, for a thread that waits must hold no model."""
        with ExitStack() as held:
            with self._taking:
                taken = self._take(held)
            if taken is not None:
                self._answer(taken)

    def _take(self, held: ExitStack) -> _Taken | None:
        """Take the newest frame and draw it, with a lease that `held` ends. Needs `_taking`."""
        if self._stopping.is_set() or not self._slot.wait(_LOOK_UP_S):
            return None
        lease = held.enter_context(self._line.lease(_LOOK_UP_S, self._stream))
        frame = self._slot.take() if lease is not None else None
        if lease is None or frame is None:
            return None
        taken_ns = self._taken_ns = time.monotonic_ns()
        size = (frame.image.shape[0], frame.image.shape[1])
        prepared = self._draw(lease, frame)
        self._tally.tick(taken_ns)
        return _Taken(self._order.number(), lease, frame, size, taken_ns, prepared, time.monotonic_ns())

    def _draw(self, lease: Lease[Model], frame: Frame) -> Prepared | BaseException | None:
        prepared: Prepared | BaseException
        try:
            prepared = lease.model.prepare(frame.image)
        except BaseException as error:  # noqa: BLE001 - told in its turn, by `_infer`
            prepared = error
        whole = self._slot.release(frame)
        return prepared if whole else None

    def _answer(self, taken: _Taken) -> None:
        message: Detections | str | None = None
        try:
            message = self._infer(taken)
        finally:  # also where the thread crashes: the frames behind wait for this one's turn to pass
            with self._order.after_those_before(taken.number):
                self._tell(taken, message)

    def _tell(self, taken: _Taken, message: Detections | str | None) -> None:
        if isinstance(message, Detections):
            taken.lease.wait_for_turn()
            self._outlet.send(replace(message, stages_ms=_stages_ms(taken)))
            self._failed_in_a_row = self._missed = 0
            self._answered_ns = time.monotonic_ns()
            return
        self._missed += 1
        self._missed_ns = time.monotonic_ns()
        self._tally.discard()
        if message is not None:
            self._failed(taken.lease, message)

    def _infer(self, taken: _Taken) -> Detections | str | None:
        """Return the answer, or why there is none; None for a torn frame, which the slot has counted."""
        lease, prepared = taken.lease, taken.prepared
        if prepared is None:
            return None
        try:
            if isinstance(prepared, BaseException):
                raise prepared  # noqa: TRY301 - told as any other failure, or a crash
            with self._outlet.busy():
                answer = lease.model.answer(prepared, lease.place)
            objects = objects_of(answer, lease.model.names)
            return encode(self._stream, lease.reference, taken.frame, taken.size, objects)
        except Exception as error:  # noqa: BLE001 - the stream's loop must outlive whatever one frame does
            return self._why(taken.frame, error)

    def _why(self, frame: Frame, error: Exception) -> str:
        if isinstance(error, ChangeoverError):
            return str(error)
        _LOG.error("stream %s: frame %d", self._stream, frame.number, exc_info=error)
        return repr(error)

    def _failed(self, lease: Lease[Model], detail: str) -> None:
        """Tell of a model's first, second, fourth, eighth... frame in a row without an answer."""
        count = self._failed_in_a_row + 1 if lease.reference == self._failing else 1
        self._failed_in_a_row, self._failing = count, lease.reference
        if count & (count - 1) == 0:
            lease.wait_for_turn()
            self._outlet.send(InferenceFailed(self._stream, lease.reference, count, detail))


def _stages_ms(taken: _Taken) -> StageTimes:
    frame, place = taken.frame, taken.lease.place
    waited_ns = taken.taken_ns - frame.offered_ns + place.began_ns - taken.prepared_ns
    return StageTimes(
        capture=_ms(frame.offered_ns - frame.captured_ns),
        wait=_ms(waited_ns),
        preprocess=_ms(taken.prepared_ns - taken.taken_ns),
        infer=_ms(place.ended_ns - place.began_ns),
        decode=_ms(time.monotonic_ns() - place.ended_ns),
    )


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
