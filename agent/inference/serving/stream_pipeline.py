"""Takes the frames of one stream from its slot, has its line's model infer them, and sends the answers to control."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from agent.inference.backends import Model, Prepared
from agent.inference.serving.comparing import Answer, ComparedFrame, LineAnswer
from agent.inference.serving.frame_loss import FrameLossCounter
from agent.inference.serving.line_gate import ActiveModelGate, Lease
from agent.inference.serving.sequencer import Sequencer
from agent.inference.serving.slack import Slack
from agent.inference.yolo.detections import encode, objects_of, top_of
from agent.messages.children import Detections, InferenceFailed, Message, StageTimes, StreamProgress
from agent.messages.errors import ChangeoverError
from agent.processes.slots.frame_slot import Frame, SlotReader

_LOG: Final = logging.getLogger(__name__)
_PROMPT_S: Final = 2.0
"""Duration of a call beyond which control withdraws `ready`, unless the call has a grace."""
_TURNS_ALLOWED: Final = 2.0
"""Multiple of its usual duration that an inference may take before it counts as hanging."""
_LONGEST_ALLOWED_S: Final = 10.0


@dataclass(frozen=True)
class Outlet:
    """Callbacks from a pipeline to its process."""

    send: Callable[[Message], None]
    """Sends a message to control."""
    busy: Callable[..., AbstractContextManager[None]]
    """Context manager of a call that the hang watchdog times: `Child.busy`."""
    slack: Slack = field(default_factory=Slack)
    """Hears of each frame that is taken and inferred, for requests and comparisons, which get the time between."""


@dataclass(frozen=True)
class _Taken:
    """A frame whose buffer was returned to the slot."""

    number: int
    """Place in the order of the stream's answers."""
    lease: Lease[Model]
    frame: Frame
    size: tuple[int, int]
    """Height, width."""
    taken_ns: int
    """Time at which the frame was taken (monotonic, ns)."""
    prepared: Prepared | BaseException | None
    """The preprocessed picture, or the error that prevented it; None for the candidate's frame."""
    prepared_ns: int
    """Time at which its preprocessing ended (monotonic, ns)."""
    compared: ComparedFrame | None = None
    """Its copy, where it is of a comparison's share."""


@dataclass(frozen=True)
class _Inferred:
    message: Detections
    answer: LineAnswer
    by_candidate: bool


class StreamPipeline:
    """Pipeline of the frames of one stream, on the threads of its line's model. Owner: the worker.

    A frame is taken only when the model admits it; until then the slot keeps the newest, and counts what it overwrites.

    Order: answers are sent in the order in which frames were taken. Threading: one thread at a time takes and
    preprocesses, while another frame is inferred, decoded or sent.
    """

    def __init__(
        self, stream: str, slot: SlotReader, line: ActiveModelGate[Model], loss: FrameLossCounter, outlet: Outlet
    ) -> None:
        self._stream: Final = stream
        self._slot: Final = slot
        self._line: Final = line
        self._loss: Final = loss
        self._outlet: Final = outlet
        self._failed_in_a_row = 0
        self._failing = ""
        """Reference of the model on which the last frames failed; empty without one."""
        self._taken_ns = 0
        self._answered_ns = 0
        self._missed_ns = 0
        self._missed = 0
        """Frames taken without an answer since the last answer."""
        self._is_stopped = False
        self._taking: Final = threading.Lock()
        self._counting: Final = threading.Lock()
        """Guards `_missed`, `_missed_ns` and the counts of `loss`."""
        self._order: Final = Sequencer()
        self.fileno: Final = slot.fileno
        self.is_waiting: Final = slot.is_waiting

    @property
    def line(self) -> str:
        """Id of its line."""
        return self._line.name

    def start(self) -> None:
        """Have frames taken whenever the line has a model."""
        self._line.add(self)

    def progress(self) -> StreamProgress:
        """Return the times (monotonic, ns) at which frames were last taken, answered and missed; from any thread."""
        moments = (self._taken_ns, self._answered_ns, self._missed_ns)
        return StreamProgress(self._stream, *moments, self._missed, int(self._line.usual_s * 1e9))

    @property
    def period_ns(self) -> int:
        """Usual time from one frame to the next in ns; 0 where it is unknown."""
        return self._loss.period_ns

    def stop(self) -> None:
        """Stop taking frames, and wait until all frames in flight are answered."""
        self._line.remove(self)
        with self._taking:
            self._is_stopped = True
        self._order.wait_all()

    def serve(self, lease: AbstractContextManager[Lease[Model] | None]) -> None:
        """Take the newest frame, have it inferred, and send the answer; `lease` is None where the model was switched.

        Threading: the threads of the line's model, and of the one before it, may call this at the same time.
        """
        with ExitStack() as held:
            with self._taking:  # because the thread of a model before this one may still preprocess a frame
                taken = self._take(held.enter_context(lease), held) if not self._is_stopped else None
            if taken is not None:
                self._answer(taken)

    def _take(self, lease: Lease[Model] | None, held: ExitStack) -> _Taken | None:
        """Take and preprocess the newest frame; the caller holds `_taking`.

        Returns None for a torn frame as well. It gets no number, so that it waits for no answer before it, and its
        thread and its turn are free for the next frame.
        """
        frame = self._slot.take() if lease is not None else None
        if lease is None or frame is None:
            return None
        taken_ns = self._taken_ns = lease.slot.taken_ns = time.monotonic_ns()
        slack = self._outlet.slack
        slack.began(self._stream, frame.number, frame.offered_ns, lease.reference)
        held.callback(slack.ended, self._stream, frame.number, is_inferred=False)  # after a torn frame, or a crash
        size = (frame.image.shape[0], frame.image.shape[1])
        comparing = self._line.comparing
        compared = comparing.take(self._stream, frame) if comparing is not None else None
        is_candidates = compared is not None and compared.is_candidates
        prepared = self._preprocess(lease, frame) if not is_candidates else None
        is_whole = self._slot.release(frame)
        with self._counting:
            self._loss.tick(taken_ns)
        if not is_whole:
            self._miss()
            return None
        prepared_ns = time.monotonic_ns()
        number = self._order.number()
        return _Taken(number, lease, frame, size, taken_ns, prepared, prepared_ns, compared)

    @staticmethod
    def _preprocess(lease: Lease[Model], frame: Frame) -> Prepared | BaseException:
        try:
            return lease.model.prepare(frame.image)
        except BaseException as error:  # noqa: BLE001 - reported in its order, by `_infer`
            return error

    def _answer(self, taken: _Taken) -> None:
        result: _Inferred | str | None = None
        try:
            result = self._infer(taken)
        finally:  # because the next frames wait for this one's number, even where the thread crashes
            with self._order.after_those_before(taken.number):
                self._report(taken, result)
        if isinstance(result, _Inferred) and taken.compared is not None:
            taken.compared.answered(result.answer, by_candidate=result.by_candidate)

    def _report(self, taken: _Taken, result: _Inferred | str | None) -> None:
        if isinstance(result, _Inferred):
            taken.lease.wait_for_turn()
            self._outlet.send(replace(result.message, stages_ms=_stages_ms(taken)))
            with self._counting:
                self._missed = 0
            self._failed_in_a_row = 0
            self._answered_ns = time.monotonic_ns()
            return
        self._miss()
        if result is not None:
            self._failed(taken.lease, result)

    def _miss(self) -> None:
        """Count a taken frame without an answer."""
        with self._counting:
            self._missed += 1
            self._missed_ns = time.monotonic_ns()
            self._loss.discard()

    def _infer(self, taken: _Taken) -> _Inferred | str:
        """Return a frame's answer or its failure."""
        try:
            by_candidate = self._infer_by_candidate(taken)
            found = by_candidate or self._infer_by_line(taken)
            size = taken.frame.of or taken.size
            answer = found.answer.resized(taken.size, size)
            objects, top = objects_of(answer, found.names), top_of(answer, found.names)
            message = encode(self._stream, found.reference, taken.frame, size, objects, top)
            latency_ms = _latency_ms(taken, time.monotonic_ns())
            if by_candidate is None and (comparing := self._line.comparing) is not None:
                comparing.line_answered(latency_ms)
            return _Inferred(message, LineAnswer(objects, top, latency_ms), by_candidate is not None)
        except Exception as error:  # noqa: BLE001 - the stream's loop must outlive whatever one frame does
            return self._describe(taken.frame, error)

    def _infer_by_candidate(self, taken: _Taken) -> Answer | None:
        """Return the candidate's answer to its frame; None for any other frame, and where it has none in time."""
        if taken.compared is None or not taken.compared.is_candidates:
            return None
        slot = taken.lease.slot
        slot.pass_turn()
        found = taken.compared.infer()
        if found is not None:
            slot.began_ns, slot.ended_ns = found.began_ns, found.ended_ns
        return found

    def _infer_by_line(self, taken: _Taken) -> Answer:
        """Return the answer of the line's model, also to a frame that its candidate did not answer."""
        lease, prepared = taken.lease, taken.prepared
        if isinstance(prepared, BaseException):
            lease.slot.pass_turn()
            raise prepared
        if prepared is None and taken.compared is not None:
            prepared = lease.model.prepare(taken.compared.pixels)
        with self._outlet.busy(_grace_s(lease.slot.usual_s)):
            answer = lease.model.answer(prepared, self._inference(taken))
        return Answer(lease.reference, lease.model.names, answer, lease.slot.began_ns, lease.slot.ended_ns)

    @contextmanager
    def _inference(self, taken: _Taken) -> Iterator[None]:
        """Run the block as a frame's inference; a guest's may begin at its end, while the answer is decoded."""
        with taken.lease.slot:
            yield
        self._outlet.slack.ended(self._stream, taken.frame.number)

    def _describe(self, frame: Frame, error: Exception) -> str:
        if isinstance(error, ChangeoverError):
            return str(error)
        _LOG.error("event=inference_failed stream=%s frame=%d", self._stream, frame.number, exc_info=error)
        return repr(error)

    def _failed(self, lease: Lease[Model], detail: str) -> None:
        """Report the first, second, fourth, eighth... frame in a row that a model failed on."""
        count = self._failed_in_a_row + 1 if lease.reference == self._failing else 1
        self._failed_in_a_row, self._failing = count, lease.reference
        if count & (count - 1) == 0:
            lease.wait_for_turn()
            self._outlet.send(InferenceFailed(self._stream, lease.reference, count, detail))


def _grace_s(usual_s: float) -> float:
    """Return the seconds by which an inference that usually takes `usual_s` may exceed `_PROMPT_S`."""
    return max(0.0, min(_TURNS_ALLOWED * usual_s, _LONGEST_ALLOWED_S) - _PROMPT_S)


def _latency_ms(taken: _Taken, now_ns: int) -> float:
    """Return the time of preprocessing, inference and decoding, without waits."""
    slot = taken.lease.slot
    return _ms(taken.prepared_ns - taken.taken_ns + now_ns - slot.began_ns)


def _stages_ms(taken: _Taken) -> StageTimes:
    frame, slot = taken.frame, taken.lease.slot
    waited_ns = taken.taken_ns - frame.offered_ns + slot.began_ns - taken.prepared_ns
    return StageTimes(
        capture=_ms(frame.offered_ns - frame.captured_ns),
        wait=_ms(waited_ns),
        preprocess=_ms(taken.prepared_ns - taken.taken_ns),
        infer=_ms(slot.ended_ns - slot.began_ns),
        decode=_ms(time.monotonic_ns() - slot.ended_ns),
    )


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
