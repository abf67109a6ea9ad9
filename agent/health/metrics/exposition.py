"""`/metrics` in Prometheus' text format: event counters, and a snapshot of the moment."""

from collections.abc import Iterable, Iterator
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from agent.health.metrics import metric_families
from agent.health.metrics.snapshot import Facts
from agent.messages.children import Residency, Swapped
from agent.messages.payloads import Switch, SwitchResult

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NO_RESIDENCY: Final = "none"
_FRAME_S: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_SWAP_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters incremented on control's thread and rendered on the HTTP server's; the library locks them."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        self._hits: Final = self._counter("cache_hits", "Swaps to a model that was resident.")
        self._misses: Final = self._counter("cache_misses", "Swaps to a model that had to be loaded.")
        self._swaps: Final = self._counter("swaps", "Changes of product or model.", "line", "result", "residency")
        self.trouble: Final = {"thread_crashes": 0, "lost": 0, "refused_messages": 0}
        self._crashes: Final = self._counter("thread_crashes", "Threads of the worker that crashed and were restarted.")
        self._workers_lost: Final = self._counter("workers_lost", "Worker processes that ended, or had to be.")
        self._refused: Final = self._counter("refused_messages", "Messages of children that cannot be.", "child")
        self._load_s: Final = self._histogram("model_load_seconds", "Loading and warming up a model.", _SWAP_S)
        self._swap_s: Final = self._histogram("swap_seconds", "Request of a change to ready.", _SWAP_S, "residency")
        self._inference_s: Final = self._histogram("inference_seconds", "One inference.", _FRAME_S, "stream")
        self._latency_s: Final = self._histogram("latency_seconds", "Capture to publishing.", _FRAME_S, "stream")
        self._by_stream: Final[dict[str, tuple[Histogram, Histogram]]] = {}

    def expect(self, lines: Iterable[str], streams: Iterable[str]) -> None:
        """Start expected counters at 0, because Prometheus sees no increase in one that first appears at 1."""
        for line in lines:
            for result in get_args(SwitchResult):
                for residency in (*get_args(Residency), _NO_RESIDENCY):
                    self._swaps.labels(line, result, residency)
        for stream in streams:
            self._of_stream(stream)
        for child in ("worker", "camera"):
            self._refused.labels(child)
        for residency in get_args(Residency):
            self._swap_s.labels(residency)

    def swapped(self, message: Swapped) -> None:
        """Count a model swap that the worker reports, also one at a start or a recovery."""
        report = message.report
        (self._hits if report.residency == "resident" else self._misses).inc()
        if report.residency != "resident":
            self._load_s.observe((report.load_ms + report.warmup_ms) / 1000)

    def switched(self, switch: Switch) -> None:
        """Count one change of product or model, with any result."""
        residency = switch.residency or _NO_RESIDENCY
        self._swaps.labels(switch.line, switch.result, residency).inc()
        if switch.result == "switched":
            self._swap_s.labels(residency).observe(switch.total_ms / 1000)

    def crashed(self) -> None:
        """Count a thread of the worker that crashed and was restarted."""
        self._crashes.inc()
        self.trouble["thread_crashes"] += 1

    def refused(self, child: str) -> None:
        """Count an invalid message of a child process; `child` is `worker`, `camera` or `supply`."""
        self._refused.labels(child).inc()
        self.trouble["refused_messages"] += 1

    def worker_lost(self) -> None:
        """Count a worker process that ended or had to be ended."""
        self._workers_lost.inc()
        self.trouble["lost"] += 1

    def inferred(self, stream: str, inference_ms: float, latency_ms: float) -> None:
        """Count one inferred frame."""
        inference_s, latency_s = self._of_stream(stream)
        inference_s.observe(inference_ms / 1000)
        latency_s.observe(latency_ms / 1000)

    def render(self, facts: Facts) -> bytes:
        """Return the text of all metrics."""
        return generate_latest(_Everything(self._registry, facts))

    def _of_stream(self, stream: str) -> tuple[Histogram, Histogram]:
        """Return a stream's histograms, cached because the look-up by label costs more than counting."""
        known = self._by_stream.get(stream)
        if known is None:
            known = self._by_stream[stream] = (self._inference_s.labels(stream), self._latency_s.labels(stream))
        return known

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=metric_families.NAMESPACE, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(
            name, text, labels, namespace=metric_families.NAMESPACE, registry=self._registry, buckets=buckets
        )


class _Everything(CollectorRegistry):
    """Registry of one scrape: counters and snapshot together."""

    def __init__(self, counted: CollectorRegistry, facts: Facts) -> None:
        super().__init__()
        self._counted: Final = counted
        self._facts: Final = facts

    def collect(self) -> Iterator[Metric]:
        yield from self._counted.collect()
        yield from metric_families.of(self._facts)
