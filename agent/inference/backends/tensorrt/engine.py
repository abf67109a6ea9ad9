"""Executes an engine: one execution context for each model, and one captured graph for each of its requests."""

import logging
import math
from typing import Final

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from agent.inference.backends.detector import Untyped
from agent.inference.backends.engine_build.request import ANSWER, PICTURE
from agent.inference.backends.engine_build.words import Words
from agent.inference.backends.tensorrt.allocator import PoolAllocator
from agent.inference.backends.tensorrt.scratch import SCRATCHES, Scratch
from agent.inference.cuda.device import Device
from agent.inference.cuda.errors import CudaError
from agent.inference.cuda.graph import Graph
from agent.inference.cuda.pinned import pinned
from agent.inference.yolo.head import Raw
from agent.inference.yolo.letterbox import Canvas

_LOG: Final = logging.getLogger(__name__)
_MOST_CAPTURES: Final = 3
"""Attempts to capture a graph; after them its work is enqueued step by step, until the scratch block moves."""
_FLOAT_BYTES: Final = 4


class _NotEnqueuedError(Exception):
    """TensorRT refused to enqueue an inference; its message is TensorRT's."""


class Engine:
    """A loaded engine with its execution context, which its requests use in turn.

    Its GPU memory is its weights and its requests' tensors; it computes in the scratch block. All of it is freed with
    the last request. Threading: a thread that infers must hold `scratch.turn`.
    """

    def __init__(self, reference: str, plan: NDArray[np.uint8], device: Device) -> None:
        """Load the engine. Raises OutOfMemoryError where the pool lacks memory, RuntimeError for TensorRT's errors."""
        self.reference: Final = reference
        self.device: Final = device
        device.enter()
        self.scratch: Final[Scratch] = SCRATCHES.of(device)
        self._words: Final = Words()
        self._allocator: Final = PoolAllocator(device.pool, reference)
        self._runtime: Untyped = trt.Runtime(self._words)
        self._runtime.gpu_allocator = self._allocator
        self._engine: Untyped = self._made(self._runtime.deserialize_cuda_engine(plan.data))
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context: Untyped = self._made(self._engine.create_execution_context(strategy))
        self._moves = -1
        self.answer_shape: Final[tuple[int, ...]] = tuple(self._engine.get_tensor_shape(ANSWER))
        self.scratch.join(id(self), int(self._engine.device_memory_size_v2))

    def enqueue(self, picture: int, answer: int, stream: int) -> None:
        """Enqueue one inference between two addresses of GPU memory. Raises what the driver raises."""
        if self._moves != self.scratch.moves:
            self._context.set_device_memory(self.scratch.address, self.scratch.size_bytes)
            self._moves = self.scratch.moves
        self._context.set_tensor_address(PICTURE, picture)
        self._context.set_tensor_address(ANSWER, answer)
        if not self._context.execute_async_v3(stream):
            raise _NotEnqueuedError(self._words.error or "TensorRT did not enqueue the inference")

    def _made(self, made: Untyped) -> Untyped:
        if made is not None:
            return made
        if self._allocator.refusal is not None:
            raise self._allocator.refusal
        raise RuntimeError(self._words.error or "TensorRT cannot load the engine")

    def __del__(self) -> None:
        """Free the context before its engine, the engine before its runtime, and then the scratch block's part."""
        try:
            self.device.enter()
            self._context = self._engine = self._runtime = None
            self.scratch.leave(id(self))
        except Exception as error:  # noqa: BLE001 - nothing may be raised here, and a broken context is told elsewhere
            _LOG.warning("event=engine_not_freed model=%s error=%r", self.reference, error)


class Request:
    """A request: its canvas and its answer in pinned memory, their copies on the GPU, and the graph between them.

    Frames run as a graph on the stream of high priority; loads and warm-ups are enqueued on the one of low priority.
    """

    def __init__(self, engine: Engine, imgsz: tuple[int, int]) -> None:
        device = engine.device
        picture_bytes, numbers = imgsz[0] * imgsz[1] * 3, math.prod(engine.answer_shape)
        pixels = pinned(device, picture_bytes).reshape(*imgsz, 3)
        self.canvas: Canvas = Canvas(imgsz, pixels)
        self._engine: Final = engine
        self._answer: Final[NDArray[np.float32]] = (
            pinned(device, numbers * _FLOAT_BYTES).view(np.float32).reshape(engine.answer_shape)
        )
        self._graph: Graph | None = None
        self._graph_moves = -1
        self._failed_captures = 0
        self._tensors: Final[list[int]] = []
        for size_bytes in (picture_bytes, self._answer.nbytes):  # one by one, because the second may be refused
            self._tensors.append(device.pool.allocate(size_bytes, engine.reference))
        self._done: Final = device.driver.new_event()
        self.run(here=True)  # because a graph can only be captured of what was executed once
        with engine.scratch.turn:
            self._capture()

    def run(self, *, here: bool = False) -> Raw:
        """Implement Request of `detector`; with `here`, which loads set, the inference lets frames go first."""
        device = self._engine.device
        device.enter()
        with self._engine.scratch.turn:
            if here:
                self._enqueue(device.loads_stream)
                self._wait(device.loads_stream)
            else:
                graph = self._captured()
                if graph is None:
                    self._enqueue(device.frames_stream)
                else:
                    graph.launch(device.frames_stream)
                self._wait(device.frames_stream)
        return (self._answer,)

    def _captured(self) -> Graph | None:
        """Return the graph, captured again where the scratch block moved; None where it cannot be captured."""
        if self._graph_moves != self._engine.scratch.moves:
            self._failed_captures = 0
        if self._graph is None or self._graph_moves != self._engine.scratch.moves:
            self._capture()
        return self._graph

    def _capture(self) -> None:
        if self._failed_captures >= _MOST_CAPTURES:
            return
        self._drop_graph()
        self._graph_moves = self._engine.scratch.moves
        stream = self._engine.device.frames_stream
        try:
            self._graph = Graph.capture(self._engine.device.driver, stream, lambda: self._enqueue(stream))
        except (CudaError, _NotEnqueuedError) as error:
            self._failed_captures += 1
            _LOG.warning("event=graph_not_captured model=%s error=%r", self._engine.reference, str(error))

    def _enqueue(self, stream: int) -> None:
        driver = self._engine.device.driver
        pixels, (picture, answer) = self.canvas.pixels, self._tensors
        driver.copy_to_device(picture, pixels.ctypes.data, pixels.nbytes, stream)
        try:
            self._engine.enqueue(picture, answer, stream)
        except _NotEnqueuedError:
            driver.synchronize(stream)  # where the context is broken, the driver says so, and TensorRT does not
            raise
        driver.copy_to_host(self._answer.ctypes.data, answer, self._answer.nbytes, stream)

    def _wait(self, stream: int) -> None:
        """Wait asleep until the stream is done, because the driver's own wait would keep a core busy."""
        driver = self._engine.device.driver
        driver.record(self._done, stream)
        driver.wait_until_happened(self._done)

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.destroy()

    def __del__(self) -> None:
        """Free what is on the GPU; the pinned memory goes with the arrays."""
        if "_tensors" not in self.__dict__:
            return
        try:
            self._engine.device.enter()
            self._drop_graph()
            for address in self._tensors:
                self._engine.device.pool.free(address)
            if "_done" in self.__dict__:
                self._engine.device.driver.destroy_event(self._done)
        except Exception as error:  # noqa: BLE001 - nothing may be raised here, and a broken context is told elsewhere
            _LOG.warning("event=request_not_freed model=%s error=%r", self._engine.reference, error)
