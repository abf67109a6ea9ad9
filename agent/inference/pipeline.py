"""One stream: from its slot through its line's model to the pipe."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from agent.inference.backends import Model
from agent.inference.detections import encode, objects_of
from agent.inference.line import Lease, Line
from agent.inference.tally import Tally
from agent.messages.children import InferenceFailed, Message
from agent.messages.errors import ChangeoverError
from agent.processes.frame_slot import Frame, SlotReader

_LOG: Final = logging.getLogger(__name__)
_LOOK_UP_S: Final = 0.25  # how often a thread without a frame or a model sees whether it should stop


@dataclass(frozen=True)
class Outlet:
    """What a pipeline needs of its process: a way to control, and the mark of a call that could hang."""

    send: Callable[[Message], None]
    busy: Callable[[], AbstractContextManager[None]]


class Pipeline:
    """The thread of one stream, named by it. Owner: the worker.

    It takes a frame only when a model is there for it: while the line has none, the slot keeps the newest frame and
    counts what it overwrites, and a source that waits for its reader waits.
    """

    def __init__(self, stream: str, slot: SlotReader, line: Line[Model], tally: Tally, outlet: Outlet) -> None:
        self._stream: Final = stream
        self._slot: Final = slot
        self._line: Final = line
        self._tally: Final = tally
        self._outlet: Final = outlet
        self._failed_in_a_row = 0
        self._failing = ""  # the reference that they failed by
        self._stopping: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name=stream, daemon=True)

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the frame in hand was answered."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._slot.wait(_LOOK_UP_S):
                self._step()

    def _step(self) -> None:
        with self._line.lease(_LOOK_UP_S) as lease:
            if lease is not None:
                self._take(lease)

    def _take(self, lease: Lease[Model]) -> None:
        frame = self._slot.take()
        if frame is None:
            return
        self._tally.tick(time.monotonic_ns())
        try:
            self._answer(lease, frame)
        except ChangeoverError as error:
            self._failed(lease, str(error))
        except Exception as error:  # noqa: BLE001 - the stream's loop must outlive whatever one frame does
            _LOG.exception("stream %s: frame %d", self._stream, frame.number)
            self._failed(lease, repr(error))

    def _answer(self, lease: Lease[Model], frame: Frame) -> None:
        size = (frame.image.shape[0], frame.image.shape[1])
        try:
            prepared = lease.model.prepare(frame.image)
        finally:
            whole = self._slot.release(frame)
        if not whole:
            self._tally.discard()
            return
        began_ns = time.monotonic_ns()
        with self._outlet.busy():
            answer = lease.model.answer(prepared)
        inference_ms = round((time.monotonic_ns() - began_ns) / 1e6, 3)
        message = encode(self._stream, lease.reference, frame, size, objects_of(answer, lease.model.names))
        message = replace(message, inference_ms=inference_ms)
        self._failed_in_a_row = 0
        lease.wait_for_turn()
        self._outlet.send(message)

    def _failed(self, lease: Lease[Model], detail: str) -> None:
        """Count the frame, and tell of a model's first, second, fourth, eighth... in a row."""
        self._tally.discard()
        count = self._failed_in_a_row + 1 if lease.reference == self._failing else 1
        self._failed_in_a_row, self._failing = count, lease.reference
        if count & (count - 1) == 0:
            lease.wait_for_turn()
            self._outlet.send(InferenceFailed(self._stream, lease.reference, count, detail))
