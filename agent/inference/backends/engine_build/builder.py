"""Builds an engine with TensorRT; runs in the sandboxed process only (engine_process.py)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tensorrt as trt

from agent.inference.backends.detector import Untyped
from agent.inference.backends.engine_build.half_graph import write_half
from agent.inference.backends.engine_build.network import Surroundings
from agent.inference.backends.engine_build.request import BUILT, GRAPH, HALF_GRAPH, TIMINGS, EngineAnswer, EngineRequest
from agent.inference.backends.engine_build.words import Words

_TELL_S: Final = 2.0
_LEVEL: Final = 3  # of 5: more takes several times as long, for a few hundredths of speed
_FIRST_TYPED: Final = 11  # from TensorRT 11 on the graph alone says what is computed in half precision

Tell = Callable[[str], None]


def build(request: EngineRequest, tell: Tell) -> EngineAnswer:
    """Build the engine into the request's folder. Raises ValueError with TensorRT's message, and OSError."""
    folder, words = Path(request.folder), Words()
    is_typed = int(trt.__version__.partition(".")[0]) >= _FIRST_TYPED
    is_half = request.precision == "f16"
    graph = folder / GRAPH
    if is_half and is_typed:
        graph = folder / HALF_GRAPH
        write_half(folder / GRAPH, graph)
    builder = trt.Builder(words)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, words)
    if not parser.parse_from_file(str(graph)):
        raise ValueError(_errors(parser) or words.error or "TensorRT cannot read the graph")
    around = Surroundings(network, request)
    around.take_pictures()
    candidates = around.leave_candidates()
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    config.max_aux_streams = 0  # because further streams have a priority of their own, and scratch memory too
    config.builder_optimization_level = _LEVEL
    config.progress_monitor = _Progress(tell)
    if is_half and not is_typed:
        config.set_flag(trt.BuilderFlag.FP16)
    timings = _timings(config, folder / TIMINGS)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError(words.error or "TensorRT cannot build the engine")
    (folder / BUILT).write_bytes(memoryview(plan))
    (folder / TIMINGS).write_bytes(memoryview(timings.serialize()))
    return EngineAnswer(tensorrt=trt.__version__, candidates=candidates)


def _timings(config: Untyped, path: Path) -> Untyped:
    """Return the timing cache of earlier builds; a new one where there is none, or TensorRT refuses it."""
    kept = path.read_bytes() if path.exists() else b""
    timings = config.create_timing_cache(kept)
    if not config.set_timing_cache(timings, False):
        timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, False)
    return timings


def _errors(parser: Untyped) -> str:
    return "; ".join(str(parser.get_error(number).desc()) for number in range(parser.num_errors))


class _Progress(trt.IProgressMonitor):  # type: ignore[misc]
    """Reports the progress of a build every few seconds. Threading: any thread of TensorRT."""

    def __init__(self, tell: Tell) -> None:
        trt.IProgressMonitor.__init__(self)
        self._tell: Final = tell
        self._steps: Final[dict[str, int]] = {}
        self._told_s = 0.0

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Record that a phase of the build began."""
        del parent_phase
        self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Report that a step of a phase ended; returns True, which lets the build continue."""
        if time.monotonic() > self._told_s + _TELL_S:
            self._told_s = time.monotonic()
            self._tell(f"{phase_name}, step {step + 1} of {self._steps.get(phase_name, 0)}")
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Record that a phase of the build ended."""
        self._steps.pop(phase_name, None)
