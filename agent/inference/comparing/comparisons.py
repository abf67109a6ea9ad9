"""The comparisons of a worker: begun and ended by control, and watched while they run."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from agent.inference.backends import Model
from agent.inference.comparing.line_comparison import LineComparison, Parts
from agent.inference.comparing.memory_growth import MemoryGrowth
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.cache_entry import candidates_claim
from agent.inference.scheduling import load_priority
from agent.inference.serving.line_gate import ActiveModelGate
from agent.inference.serving.slack import Slack
from agent.inference.serving.stream_pipeline import StreamPipeline
from agent.messages.canary import (
    CanaryReason,
    Compare,
    Compared,
    ComparisonBegan,
    ComparisonFailed,
    Counts,
    StopComparing,
)
from agent.messages.children import Message
from agent.messages.references import ModelVersion
from agent.processes.threads import RestartedThread

_REPORT_S: Final = 0.5


class Comparisons:
    """Owner of the comparison of each line, at most one a line. Owner of this: the worker.

    A thread reports counts every 0.5 s while a comparison runs, and ends those whose candidate hangs or grows.
    Threading: any thread; a candidate is given up on whichever thread notices first.
    """

    def __init__(
        self,
        cache: Cache[Model],
        lines: Mapping[str, ActiveModelGate[Model]],
        send: Callable[[Message], None],
        slack: Slack,
        pausing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._cache: Final = cache
        self._lines: Final = lines
        self._send: Final = send
        self._slack: Final = slack
        self._pausing: Final = pausing
        self._pipelines: tuple[StreamPipeline, ...] = ()
        self._lock: Final = threading.Lock()
        self._running: Final[dict[str, tuple[LineComparison, MemoryGrowth]]] = {}
        self._changed: Final = threading.Event()
        self._stopping: Final = threading.Event()
        self._thread: Final = RestartedThread(self._watch, "comparisons")

    def start(self, pipelines: tuple[StreamPipeline, ...]) -> None:
        """Start the thread; `pipelines` are those of all streams."""
        self._pipelines = pipelines
        self._thread.start()

    def stop(self) -> None:
        """End all comparisons, and the thread."""
        for line in list(self._running):
            self._end(line)
        self._stopping.set()
        self._changed.set()
        self._thread.join()

    def begin(self, request: Compare) -> None:
        """Begin a comparison whose candidate is resident; one that runs on the line ends."""
        line = self._lines.get(request.line)
        if line is None:
            self._refuse(request, "unknown_line", f"the worker has no line {request.line!r}")
            return
        self._end(request.line)
        entry = self._cache.claim(request.candidate, candidates_claim(request.line))
        if entry is None or entry.model is None:
            is_wrong = request.candidate in self._cache.versions(only_condemned=True)
            why = "its answers were found wrong" if is_wrong else "its memory was needed"
            self._refuse(request, "load_failed" if is_wrong else "no_memory", f"is not loaded any more, because {why}")
            return
        oddity = self._oddity(line, entry.model)
        if oddity is not None:
            self._cache.unclaim(entry, candidates_claim(request.line))
            self._refuse(request, "implausible", oddity)
            return
        if entry.idle_leases:
            load_priority.restore_normal()  # because frames would wait for a proof's picture at idle priority
        give_up = partial(self._give_up, request)
        parts = Parts(entry, self._cache, line, self._slack, self._pausing, give_up)
        comparison = LineComparison(request, parts, partial(self._pace, request.line))
        with self._lock:
            self._running[request.line] = comparison, MemoryGrowth(self._cache, request.memory_bytes)
        self._send(ComparisonBegan(request.line, request.number))  # before the candidate's first answer
        comparison.start()
        self._changed.set()

    def end(self, message: StopComparing) -> None:
        """End a comparison; every frame that is taken from now on is the line's model's."""
        running = self._running.get(message.line)
        if running is not None and running[0].request.number == message.number:
            self._end(message.line)

    def give_way(self, candidate: Entry[Model], wanted: ModelVersion) -> None:
        """Give up the comparisons of a candidate whose memory is needed for a model that a line waits for."""
        with self._lock:
            running = [one for one, _ in self._running.values() if one.entry is candidate]
        for one in running:
            self._give_up(one.request, "no_memory", f"its memory is needed for {wanted.reference}")

    def _end(self, line: str, only: LineComparison | None = None) -> bool:
        """End the line's comparison, or only that one; return False where it does not run."""
        with self._lock:
            running = self._running.get(line)
            if running is None or (only is not None and running[0] is not only):
                return False
            del self._running[line]
        comparison = running[0]
        comparison.stop()
        self._report(comparison, is_last=True)
        self._cache.unclaim(comparison.entry, candidates_claim(line))
        return True

    def _give_up(self, request: Compare, reason: CanaryReason, detail: str) -> None:
        running = self._running.get(request.line)
        if running is not None and running[0].request is request and self._end(request.line, running[0]):
            self._refuse(request, reason, detail)

    def _refuse(self, request: Compare, reason: CanaryReason, detail: str) -> None:
        words = f"{request.candidate.reference}: {detail}"[:500]
        self._send(ComparisonFailed(request.line, request.number, reason, words))

    @staticmethod
    def _oddity(line: ActiveModelGate[Model], candidate: Model) -> str | None:
        """Return why the two models cannot be compared; None where they can."""
        active = line.active
        if active is None or active.model is None:
            return None
        stable = active.model
        if stable.reading.task != candidate.reading.task:
            return f"it is a model to {candidate.reading.task}, and {active.version.reference} to {stable.reading.task}"
        if not set(stable.names) & set(candidate.names):
            return f"it has no class of {active.version.reference}"
        return None

    def _pace(self, line: str) -> tuple[int, int]:
        """Return the shortest frame period of the line's streams in ns, 0 where unknown, and its model's streams."""
        periods = (one.period_ns for one in self._pipelines if one.line == line)
        active = self._lines[line].active
        served = sum(self._lines[one.line].active is active for one in self._pipelines)
        return min((one for one in periods if one), default=0), served

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait(_REPORT_S if self._running else None)
            self._changed.clear()
            with self._lock:
                running = list(self._running.values())
            for comparison, growth in running:
                self._report(comparison)
                trouble = comparison.trouble() or growth.trouble()
                if trouble is not None:
                    self._give_up(comparison.request, *trouble)

    def _report(self, comparison: LineComparison, *, is_last: bool = False) -> None:
        """Report what was counted since the last report, if anything was; control waits for the last one."""
        counts = comparison.tally.taken()
        if counts is None and is_last:
            counts = Counts()
        if counts is not None:
            self._send(Compared(comparison.request.line, comparison.request.number, counts))
