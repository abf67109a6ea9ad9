"""A running comparison on one line: which frames it takes, who infers them, and what ends it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.backends import Model
from agent.inference.comparing.deadline import USUAL_TIMES, DeadlineCaller, deadline_s
from agent.inference.comparing.kept_frames import FrameKeeper
from agent.inference.comparing.matching import FrameAnswer, compare
from agent.inference.comparing.share import is_of_share
from agent.inference.comparing.steadiness import move_of, moved, unsteadiness
from agent.inference.comparing.tally import Tally
from agent.inference.memory.cache import Cache, Entry
from agent.inference.scheduling import load_priority
from agent.inference.serving.comparing import Answer, LineAnswer
from agent.inference.serving.line_gate import ActiveModelGate
from agent.inference.serving.slack import Gap, Slack
from agent.inference.yolo.detections import objects_of, top_of
from agent.messages.canary import CanaryReason, Compare, KeptFrame
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.texts.utc import utc_text_of_ns
from agent.processes.scheduling import priorities
from agent.processes.slots.frame_slot import Frame
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_WAITING: Final = 2
"""Frames that wait for slack; a further one is skipped, and counted."""
_PATIENCE_NS: Final = 500_000_000
"""Time that a frame waits for a gap; then as long again for a moment without a frame, where it may delay the next."""
_SLACK_RUNS: Final = 5
"""The shortest of so many inferences in slack tells what the next one needs, because frames may delay the others."""
_UNDISTURBED_PERIODS: Final = 250
"""Frame periods between two inferences of a shadow that fit no gap, so that they delay fewer frames than 1 in 100."""
HUNG_S: Final = 2.0
"""Time after which an inference that was too late counts as hanging."""
_STARVED_S: Final = 5.0
"""Time after which an inference in slack goes on at normal priority, because it may only starve."""
HUNG_IN_SLACK_S: Final = 20.0
_NEWEST: Final = 0.125

GiveUp = Callable[[CanaryReason, str], None]


@dataclass(frozen=True)
class Parts:
    """The parts of a comparison."""

    entry: Entry[Model]
    """The candidate, which the comparison has claimed."""
    cache: Cache[Model]
    line: ActiveModelGate[Model]
    slack: Slack
    pausing: Callable[[], AbstractContextManager[None]]
    """Context manager in which idle CPU time is not measured."""
    give_up: GiveUp
    """Ends the comparison because of its candidate; called once at most."""


class LineComparison:
    """Implements `Comparing`. Owner: the worker's comparisons, which start and stop it.

    In the mode `shadow` the line's model answers every frame, and the candidate infers those of the share afterwards.
    In the mode `canary` the candidate answers the share, and the line's model infers it afterwards. What is inferred
    afterwards is inferred in slack.

    Threading: `take`, `line_answered` and the frames' methods run on the threads of the line's model.
    """

    def __init__(self, request: Compare, parts: Parts, pace: Callable[[], tuple[int, int]]) -> None:
        """Store the arguments; `pace` returns the line's frame period (ns; 0: unknown) and its model's streams."""
        self.request: Final = request
        self.tally: Final = Tally()
        self._parts: Final = parts
        self._pace: Final = pace
        model = parts.entry.model
        assert model is not None, "a claimed model is resident"
        self._usual_s: float = model.places.usual_s
        self._threads: Final = model.places.count
        """Threads of the candidate, and of the line's model, because each model has the same number."""
        self._caller: Final = DeadlineCaller[Answer](f"candidate of {request.line}", max(1, self._threads - 1))
        self._keeper = self._make_keeper()
        self._turn: Final = threading.Condition()
        self._waiting: Final[deque[tuple[_Frame, LineAnswer]]] = deque()
        self._slack_since_s = 0.0
        """Start of the inference in slack that runs now (monotonic); 0.0: none."""
        self._slack_runs_s: Final[dict[bool, deque[float]]] = {is_: deque(maxlen=_SLACK_RUNS) for is_ in (True, False)}
        """Durations of preprocessing and network in slack: of the candidate (True), and of the line's model."""
        self._disturbed_ns = 0
        self._is_over = False
        self._thread: Final = RestartedThread(self._compare_all, f"comparison of {request.line}")

    @property
    def entry(self) -> Entry[Model]:
        """The candidate."""
        return self._parts.entry

    def start(self) -> None:
        """Begin to take frames."""
        if self._keeper is not None:
            self._keeper.start()
        self._caller.start()
        self._thread.start()
        self._parts.line.comparing = self

    def stop(self) -> None:
        """Take no more frames, and end the threads; returns at once, because one may hang."""
        self._parts.line.comparing = None
        with self._turn:
            self._is_over = True
            self._waiting.clear()
            self._turn.notify_all()
        self._caller.stop()

    def take(self, stream: str, frame: Frame) -> "_Frame | None":
        """Implement `Comparing.take`."""
        if self._is_over or not is_of_share(frame.number, self.request.share):
            return None
        is_candidates = self.request.mode == "canary"
        if is_candidates and self._caller.late_s():
            return None  # because its threads are taken
        if not is_candidates and len(self._waiting) >= _WAITING:
            self.tally.count("skipped")
            return None
        try:
            return _Frame(self, stream, frame, frame.image.copy(), is_candidates=is_candidates)
        except MemoryError:
            self.tally.count("skipped")
            return None

    def line_answered(self, latency_ms: float) -> None:
        """Implement `Comparing.line_answered`."""
        self.tally.stable_answered(latency_ms)

    def trouble(self) -> tuple[CanaryReason, str] | None:
        """Return what is wrong with an inference that does not end; None where none hangs. For the owner's thread."""
        late_s = self._caller.late_s()
        if late_s > max(HUNG_S, USUAL_TIMES * self._usual_s):
            return "hung", f"a frame was not answered for {late_s:.1f} s; its thread and its memory are left behind"
        since_s = self._slack_since_s
        slack_s = time.monotonic() - since_s if since_s else 0.0
        if slack_s > max(_STARVED_S, USUAL_TIMES * self._usual_s):
            load_priority.restore_normal()
        if slack_s > max(HUNG_IN_SLACK_S, 2 * USUAL_TIMES * self._usual_s):
            return (
                "hung",
                f"an inference in slack has run for {slack_s:.0f} s; its thread and its memory are left behind",
            )
        return None

    # the candidate's frames

    def infer_for_line(self, pixels: NDArray[np.uint8]) -> Answer | None:
        """Return the candidate's answer to a frame of the line; None where it fails, or is late."""
        try:
            found = self._caller.call(lambda: self._candidate_infers(pixels), self._deadline_s())
        except Exception as error:  # noqa: BLE001 - whatever it is, the line's model answers the frame
            self._failed(error)
            return None
        if found is None:
            self.tally.count("late")
        return found

    def enqueue(self, frame: "_Frame", answer: LineAnswer) -> None:
        """Have the other model infer an answered frame in slack."""
        with self._turn:
            if self._is_over:
                return
            if len(self._waiting) >= _WAITING:
                self.tally.count("skipped")
                return
            self._waiting.append((frame, answer))
            self._turn.notify_all()

    def _candidate_infers(self, pixels: NDArray[np.uint8]) -> Answer:
        entry = self._parts.entry
        model = self._parts.cache.lease(entry)
        try:
            began_ns = time.monotonic_ns()
            answer = model.answer(model.prepare(pixels))
            ended_ns = time.monotonic_ns()
        finally:
            self._parts.cache.unlease(entry)
        self._note_usual((ended_ns - began_ns) / 1e9)
        return Answer(entry.version.reference, model.names, answer, began_ns, ended_ns)

    def _deadline_s(self) -> float:
        period_ns, streams = self._pace()
        return deadline_s(self._usual_s or self._parts.line.usual_s, period_ns / 1e9, streams - self._threads)

    def _note_usual(self, took_s: float) -> None:
        self._usual_s += (took_s - self._usual_s) * _NEWEST if self._usual_s else took_s

    def _failed(self, error: Exception) -> None:
        """Give the candidate up because of an error of its own."""
        reason: CanaryReason = "inference_failed"
        if isinstance(error, ModelError | OutOfMemoryError):
            reason = error.reason
        else:
            _LOG.error("event=candidate_failed line=%s", self.request.line, exc_info=error)
        self._give_up(reason, str(error) or repr(error))

    def _give_up(self, reason: CanaryReason, detail: str) -> None:
        with self._turn:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            self._parts.give_up(reason, detail)

    # inferences in slack

    def _compare_all(self) -> None:
        while (item := self._next()) is not None:
            self._compare(*item)

    def _next(self) -> "tuple[_Frame, LineAnswer] | None":
        with self._turn:
            self._turn.wait_for(lambda: self._is_over or self._waiting)
            return None if self._is_over else self._waiting.popleft()

    def _compare(self, frame: "_Frame", published: LineAnswer) -> None:
        entry = self._parts.line.active if frame.is_candidates else self._parts.entry
        if entry is None or not self._wait_for_slack(entry, may_delay=frame.is_candidates):
            if not self._is_over:
                self.tally.count("skipped")
            return
        try:
            other = self._answer_in_slack(entry, frame.pixels, is_timed=not frame.is_candidates)
        except Exception as error:  # noqa: BLE001 - of a model that may do whatever it likes
            if frame.is_candidates:
                _LOG.warning("event=not_compared line=%s error=%r", self.request.line, error)
            else:
                self._failed(error)
            return
        if other is not None and not self._is_over:
            self._look_again(frame, *self._count(frame, published, other))

    def _wait_for_slack(self, entry: Entry[Model], *, may_delay: bool = False) -> bool:
        """Wait until an inference disturbs no frame; False where there is no such time soon.

        It must end before the next frame is due. Where no gap is so long, it may now and then begin at idle priority
        once no frame is in work, unless the model serves, so that the next frame would wait: `may_delay` allows that.
        """
        model = entry.model
        if model is None:
            return False
        runs_s = self._slack_runs_s[entry is self._parts.entry]
        needed_s = min(runs_s, default=model.places.usual_s)
        if self._finds_gap(needed_s):
            return True
        if may_delay:
            return self._finds_gap(needed_s, may_delay=True)
        if self._serves(entry) or not self._may_disturb(model) or not self._finds_gap(needed_s, may_delay=True):
            return False
        self._disturbed_ns = time.monotonic_ns()
        return True

    def _may_disturb(self, model: Model) -> bool:
        """Return True where a model that no frame waits for may infer at idle priority beside frames, seldom."""
        since_ns = time.monotonic_ns() - self._disturbed_ns
        is_time = since_ns >= _UNDISTURBED_PERIODS * self._pace()[0]
        return is_time and model.processor.processor == "cpu" and priorities.can_return()

    def _finds_gap(self, needed_s: float, *, may_delay: bool = False) -> bool:
        """Wait for a gap so long; with `may_delay`, for any."""
        slack = self._parts.slack
        found = slack.wait(needed_s * 1e9, slack.clock_ns() + _PATIENCE_NS, may_delay=may_delay)
        is_over = self._is_over
        if found is Gap.FOUND and is_over:
            slack.unused()
        return found is Gap.FOUND and not is_over

    def _serves(self, entry: Entry[Model]) -> bool:
        """Return True for a model whose next frame may be due, which would wait for its inference in slack."""
        return bool(entry.serving) or self.request.mode == "canary"

    def _answer_in_slack(
        self, entry: Entry[Model], pixels: NDArray[np.uint8], *, is_timed: bool = False
    ) -> Answer | None:
        """Have a model infer a picture; None where it is not there any more. With `is_timed` its duration counts.

        A model that serves keeps its priority, because at idle priority its next frame could wait for long.
        """
        with self._parts.cache.borrowed(entry.version) as model:
            if model is None:
                self._parts.slack.unused()
                return None
            self._slack_since_s = time.monotonic()
            began_ns = time.monotonic_ns()
            try:
                prepared = model.prepare(pixels)
                with self._parts.pausing():
                    lowered = load_priority.lowered("normal" if self._serves(entry) else "idle", may_stay=False)
                    answer = model.answer(prepared, self._timed(entry, began_ns, lowered), here=True)
                ended_ns = time.monotonic_ns()
            finally:
                self._slack_since_s = 0.0
                self._parts.slack.spent(began_ns)
            if is_timed:
                self._note_usual((ended_ns - began_ns) / 1e9)
                self.tally.shadowed((ended_ns - began_ns) / 1e6)
            return Answer(entry.version.reference, model.names, answer, began_ns, ended_ns)

    @contextmanager
    def _timed(self, entry: Entry[Model], began_ns: int, during: AbstractContextManager[None]) -> Iterator[None]:
        """Run the block, which is the network alone, within `during`; record the time since `began_ns`."""
        with during:
            yield
            ran_s = (time.monotonic_ns() - began_ns) / 1e9
        self._slack_runs_s[entry is self._parts.entry].append(ran_s)

    def _look_again(self, frame: "_Frame", stable: FrameAnswer, candidate: FrameAnswer) -> None:
        """Have both models infer the frame once more, moved by some pixels, and count how far their answers change."""
        if isinstance(stable.top, list) or isinstance(candidate.top, list):
            return  # because the best class of a whole picture has no place in it
        move, found = move_of(frame.number), list[float | None]()
        try:
            pixels = moved(frame.pixels, move)  # before the waits, because a gap that was found is to be used
        except Exception:  # noqa: BLE001 - as in `_compare`
            return
        for entry, answer in ((self._parts.line.active, stable), (self._parts.entry, candidate)):
            if entry is None or not self._wait_for_slack(entry):
                return
            try:
                again = self._answer_in_slack(entry, pixels)
            except Exception as error:  # noqa: BLE001 - as in `_compare`
                if entry is self._parts.entry:
                    self._failed(error)
                return
            if again is None or self._is_over:
                return
            objects = objects_of(again.answer.resized(frame.image_size, frame.size), again.names)
            found.append(unsteadiness(answer.objects, objects, move, frame.size, answer.confidence))
        if found[0] is not None and found[1] is not None:
            self.tally.steadied(found[0], found[1])

    def _count(self, frame: "_Frame", published: LineAnswer, other: Answer) -> tuple[FrameAnswer, FrameAnswer]:
        """Compare both answers; return the stable model's and the candidate's."""
        answer = other.answer.resized(frame.image_size, frame.size)
        objects, top = objects_of(answer, other.names), top_of(answer, other.names)
        active = self._parts.line.active
        stable_confidence = active.version.confidence if active is not None else 0.0
        confidences = (self.request.candidate.confidence, stable_confidence)
        own, others = confidences if frame.is_candidates else confidences[::-1]
        line, second = FrameAnswer(published.objects, published.top, own), FrameAnswer(objects, top, others)
        stable, candidate = (second, line) if frame.is_candidates else (line, second)
        found = compare(stable, candidate)
        self.tally.compared(found)
        if self._keeper is not None and found.distance > 0:
            self._keeper.offer(found.distance, frame.kept(), frame.pixels, (stable, candidate))
        return stable, candidate

    def _make_keeper(self) -> FrameKeeper | None:
        request = self.request
        if not request.keep_dir:
            return None
        return FrameKeeper(Path(request.keep_dir), request.keep_bytes, request.candidate.reference)


class _Frame:
    """Implements `ComparedFrame`."""

    def __init__(
        self, owner: LineComparison, stream: str, frame: Frame, pixels: NDArray[np.uint8], *, is_candidates: bool
    ) -> None:
        self.is_candidates: Final = is_candidates
        self.pixels: Final = pixels
        self.image_size: Final = (pixels.shape[0], pixels.shape[1])
        """Height and width of the pixels."""
        self.size: Final = frame.of or self.image_size
        """Height and width of the picture in whose pixels answers are published."""
        self._owner: Final = owner
        self._stream: Final = stream
        self.number: Final = frame.number
        self._captured_unix_ns: Final = frame.captured_unix_ns

    def infer(self) -> Answer | None:
        return self._owner.infer_for_line(self.pixels)

    def answered(self, answer: LineAnswer, *, by_candidate: bool) -> None:
        if by_candidate:
            self._owner.tally.candidate_answered(answer.latency_ms)
        if by_candidate or not self.is_candidates:
            self._owner.enqueue(self, answer)

    def kept(self) -> KeptFrame:
        """Return the frame's facts for a report."""
        captured_at = utc_text_of_ns(self._captured_unix_ns)
        return KeptFrame(self._stream, self.number, captured_at, self.size[1], self.size[0])
