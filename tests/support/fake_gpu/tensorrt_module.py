"""A fake of the Python module tensorrt, 10.x or 11.x, whose engines are computed by ONNX Runtime on the CPU.

Names and arguments are those of the real bindings (signatures.json, which test_signatures.py compares). A plan belongs
to one version and one architecture; another's is refused as TensorRT refuses it: by None, and a word in the log.
"""

import json
import time
import types
import weakref
from enum import IntEnum
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from support.fake_gpu.libcuda import FakeCuda
from support.fake_gpu.onnx_network import (
    ONNX_TYPES,
    Added,
    BuildError,
    Constant,
    Graph,
    Parsed,
    Shuffle,
    Slice,
    TopK,
)

_MAGIC = b"ftrt"
_MOST_K = 3840
_PERSISTENT_BYTES = 4096


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


class ElementWiseOperation(IntEnum):
    SUM = 0
    PROD = 1
    DIV = 5


class TopKOperation(IntEnum):
    MAX = 0
    MIN = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class _OlderFlag(IntEnum):
    FP16 = 0
    TF32 = 7


class _NewerFlag(IntEnum):
    TF32 = 7


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self.is_made = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IGpuAllocator:
    def __init__(self) -> None:
        self.is_made = True

    def allocate(self, size: int, alignment: int, flags: int) -> Any:
        raise NotImplementedError

    def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> Any:
        raise NotImplementedError

    def reallocate(self, address: int, alignment: int, new_size: int) -> Any:
        raise NotImplementedError

    def deallocate(self, memory: int) -> bool:
        raise NotImplementedError

    def deallocate_async(self, memory: int, stream: int) -> bool:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self.is_made = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class Permutation(tuple[int, ...]):
    __slots__ = ()


class Weights:
    def __init__(self, a: np.ndarray[Any, Any]) -> None:
        self.numbers = weakref.ref(a)  # as TensorRT, which copies nothing


class ITensor:
    def __init__(self, graph: Graph, name: str) -> None:
        self._graph, self._name = graph, name

    @property
    def name(self) -> str:
        return self._graph.renamed.get(self._name, self._name)

    @name.setter
    def name(self, name: str) -> None:
        self._graph.renamed[self._name] = name
        self._graph.changed()

    @property
    def dtype(self) -> DataType:
        return DataType[self._graph.facts_of(self.name)[0]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._graph.facts_of(self.name)[1]


class ILayer:
    def __init__(self, graph: Graph, made: Any) -> None:
        self._graph, self._made = graph, made

    @property
    def num_inputs(self) -> int:
        return len(self._made.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._made.outputs)

    def get_input(self, index: int) -> ITensor | None:
        name = self._made.inputs[index]
        return ITensor(self._graph, name) if name else None

    def set_input(self, index: int, tensor: ITensor) -> None:
        self._made.inputs[index] = tensor.name
        self._graph.changed()

    def get_output(self, index: int) -> ITensor | None:
        return ITensor(self._graph, self._made.outputs[index]) if index < len(self._made.outputs) else None


class IShuffleLayer(ILayer):
    @property
    def first_transpose(self) -> Permutation:
        return Permutation(self._made.order or ())

    @first_transpose.setter
    def first_transpose(self, order: Permutation) -> None:
        self._made.order = tuple(order)
        self._graph.changed()

    @property
    def reshape_dims(self) -> tuple[int, ...]:
        return tuple(self._made.shape or ())

    @reshape_dims.setter
    def reshape_dims(self, shape: tuple[int, ...]) -> None:
        self._made.shape = tuple(shape)
        self._graph.changed()


class IConcatenationLayer(ILayer):
    @property
    def axis(self) -> int:
        return int(self._made.attributes["axis"])

    @axis.setter
    def axis(self, axis: int) -> None:
        self._made.attributes["axis"] = axis
        self._graph.changed()


class INetworkDefinition:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.typed = False

    @property
    def num_layers(self) -> int:
        return len(self._graph.layers)

    @property
    def num_inputs(self) -> int:
        return len(self._graph.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._graph.outputs)

    def get_layer(self, index: int) -> ILayer:
        return ILayer(self._graph, self._graph.layers[index])

    def get_input(self, index: int) -> ITensor:
        return ITensor(self._graph, list(self._graph.inputs)[index])

    def get_output(self, index: int) -> ITensor:
        return ITensor(self._graph, self._graph.outputs[index])

    def add_input(self, name: str, dtype: DataType, shape: tuple[int, ...]) -> ITensor:
        assert name not in self._graph.inputs, "each input has a name of its own"
        self._graph.inputs[name] = helper.make_tensor_value_info(name, ONNX_TYPES[dtype.name], list(shape))
        self._graph.changed()
        return ITensor(self._graph, name)

    def remove_tensor(self, tensor: ITensor) -> None:
        assert not any(tensor.name in layer.inputs for layer in self._graph.layers), "it is the input of a layer"
        self._graph.inputs.pop(tensor.name)
        self._graph.changed()

    def mark_output(self, tensor: ITensor) -> None:
        self._graph.outputs.append(tensor.name)
        self._graph.changed()

    def unmark_output(self, tensor: ITensor) -> None:
        self._graph.outputs.remove(tensor.name)
        self._graph.changed()

    def _add(self, made: Any, kind: type[ILayer] = ILayer) -> Any:
        self._graph.layers.append(made)
        self._graph.changed()
        return kind(self._graph, made)

    def add_cast(self, input: ITensor, to_type: DataType) -> Any:
        return self._add(Added(self._graph, "Cast", [input.name], to=ONNX_TYPES[to_type.name]))

    def add_shuffle(self, input: ITensor) -> Any:
        return self._add(Shuffle(self._graph, input.name), IShuffleLayer)

    def add_slice(self, input: ITensor, start: tuple[int, ...], shape: tuple[int, ...], stride: tuple[int, ...]) -> Any:
        return self._add(Slice(self._graph, input.name, start, shape, stride))

    def add_elementwise(self, input1: ITensor, input2: ITensor, op: ElementWiseOperation) -> Any:
        kind = {ElementWiseOperation.SUM: "Add", ElementWiseOperation.PROD: "Mul", ElementWiseOperation.DIV: "Div"}[op]
        return self._add(Added(self._graph, kind, [input1.name, input2.name]))

    def add_constant(self, shape: tuple[int, ...], weights: Weights) -> Any:
        return self._add(Constant(self._graph, shape, weights.numbers))

    def add_topk(self, input: ITensor, op: TopKOperation, k: int, axes: int) -> Any:
        assert op is TopKOperation.MAX
        return self._add(TopK(self._graph, input.name, k, axes)) if k <= _MOST_K else None

    def add_gather(self, input: ITensor, indices: ITensor, axis: int) -> Any:
        return self._add(Added(self._graph, "Gather", [input.name, indices.name], axis=axis))

    def add_concatenation(self, inputs: list[ITensor]) -> Any:
        return self._add(Added(self._graph, "Concat", [one.name for one in inputs], axis=1), IConcatenationLayer)

    def add_identity(self, input: ITensor) -> Any:
        return self._add(Added(self._graph, "Identity", [input.name]))


class ITimingCache:
    def __init__(self, sm: str, known: set[str]) -> None:
        self.sm, self.known = sm, known

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps({"sm": self.sm, "known": sorted(self.known)}).encode())


class ParserError:
    def __init__(self, words: str) -> None:
        self._words = words

    def desc(self) -> str:
        return self._words


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    def parse_from_file(self, model: str) -> bool:
        try:
            read = onnx.load(model)
            onnx.checker.check_model(read)
        except Exception as error:  # noqa: BLE001 - as TensorRT: False, and a list of errors
            self._errors.append(ParserError(f"Failed to parse: {error}"))
            return False
        graph = self._network._graph
        graph.layers = [Parsed(node) for node in graph.read(read)]
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IBuilderConfig:
    def __init__(self, sm: str) -> None:
        self._sm = sm
        self.max_aux_streams = -1
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self.pools: dict[MemoryPoolType, int] = {}
        self.flags_set: set[str] = set()
        self.timings: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def set_flag(self, flag: Any) -> None:
        self.flags_set.add(flag.name)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        if not serialized_timing_cache:
            return ITimingCache(self._sm, set())
        read = json.loads(serialized_timing_cache)
        return ITimingCache(read["sm"], set(read["known"]))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.sm != self._sm and not ignore_mismatch:
            return False
        self.timings = cache
        return True


def fake_tensorrt(version: str, cuda: FakeCuda | None = None, sm: str = "87") -> Any:  # noqa: C901 - one module
    """A module `tensorrt` of `version`; `cuda` is the GPU that its engines run on, None where it only builds."""
    major = int(version.partition(".")[0])
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    module.__spec__ = ModuleSpec("tensorrt", None)
    module.timed = []
    """The layers that builds had to time, because no timing cache knew them."""

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            network = INetworkDefinition(Graph())
            network.typed = major >= 11 or bool(flags & 1 << 1)
            return network

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig(sm)

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
            try:
                return self._build(network, config)
            except BuildError as error:
                words = f"[network.cpp::build] {error}"
                self._logger.log(Severity.ERROR, words)
                return None

        def _build(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
            model = network._graph.built()
            if "FP16" in config.flags_set:
                if network.typed:
                    raise BuildError("FP16 cannot be set for a strongly typed network")
                _round_to_half(model)
            kinds = [f"{node.op_type} {len(node.input)}" for node in model.graph.node]
            monitor = config.progress_monitor
            if monitor is not None:
                assert monitor.is_made, "the base class was not initialised"
                monitor.phase_start("Tactic timing", None, len(kinds))
            for step, kind in enumerate(kinds):
                if config.timings is None or kind not in config.timings.known:
                    module.timed.append(kind)
                    if config.timings is not None:
                        config.timings.known.add(kind)
                if monitor is not None and not monitor.step_complete("Tactic timing", step):
                    return None
            if monitor is not None:
                monitor.phase_finish("Tactic timing")
            header = {
                "version": version,
                "sm": sm,
                "weights": _weight_bytes(model, halved="FP16" in config.flags_set),
                "scratch": _scratch_bytes(model),
                "aux": config.max_aux_streams,
            }
            written = json.dumps(header).encode()
            return IHostMemory(_MAGIC + len(written).to_bytes(4, "little") + written + model.SerializeToString())

    class IExecutionContext:
        _has_run: bool = False

        def __init__(self, engine: "ICudaEngine", strategy: ExecutionContextAllocationStrategy) -> None:
            self._engine, self._strategy = engine, strategy
            self._addresses: dict[str, int] = {}
            self._scratch = (0, 0)
            self._persistent = 0
            self._persistent = engine._allocate(_PERSISTENT_BYTES)
            if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
                self._scratch = (engine._allocate(engine.device_memory_size_v2), engine.device_memory_size_v2)

        def set_device_memory(self, memory: int, size: int) -> None:
            assert self._strategy is ExecutionContextAllocationStrategy.USER_MANAGED
            assert size >= self._engine.device_memory_size_v2, "less than the engine needs"
            self._scratch = (memory, size)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if name not in self._engine._tensors:
                return False
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            engine = self._engine
            if set(self._addresses) != set(engine._tensors) or not self._scratch[0]:
                engine._logger.log(Severity.ERROR, "an address is not set")
                return False
            assert cuda is not None
            if cuda.is_capturing(stream_handle) and not self._has_run:
                cuda.invalidate(stream_handle)
                engine._logger.log(Severity.ERROR, "enqueue must be called once before it is captured")
                return False
            self._has_run = True
            addresses, scratch = dict(self._addresses), (self._scratch[0], engine.device_memory_size_v2)
            work = engine._work(addresses, scratch)
            if cuda.enqueue(stream_handle, work):
                engine._logger.log(Severity.ERROR, "[cudaDriverHelpers.cpp] an error of the driver")
                return False
            return True

        def __del__(self) -> None:
            self._engine._free(self._persistent)
            if self._strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
                self._engine._free(self._scratch[0])

    class ICudaEngine:
        def __init__(self, logger: ILogger, allocator: Any, header: dict[str, Any], model: bytes) -> None:
            self._logger, self._allocator, self._header = logger, allocator, header
            self._weights = 0
            self._weights = self._allocate(header["weights"])
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            ends = (*self._session.get_inputs(), *self._session.get_outputs())
            self._tensors = {end.name: tuple(end.shape) for end in ends}

        @property
        def device_memory_size_v2(self) -> int:
            return int(self._header["scratch"])

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensors[name]

        def create_execution_context(
            self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
        ) -> "IExecutionContext | None":
            try:
                return IExecutionContext(self, strategy)
            except MemoryError:
                self._logger.log(Severity.ERROR, "[defaultAllocator.cpp::allocate] Cuda failure 2: out of memory")
                return None

        def _allocate(self, size: int) -> int:
            address = self._allocator.allocate_async(size, 256, 0, 0)
            if not address:
                raise MemoryError
            return int(address)

        def _free(self, address: int) -> None:
            self._allocator.deallocate_async(address, 0)

        def _work(self, addresses: dict[str, int], scratch: tuple[int, int]) -> Any:
            entry, end = self._session.get_inputs()[0], self._session.get_outputs()[0]
            weights, session = (self._weights, int(self._header["weights"])), self._session

            def work() -> None:
                assert cuda is not None
                cuda.view(*weights)
                cuda.view(*scratch)[:] = 0xA5
                shape = tuple(entry.shape)
                dtype = np.uint8 if entry.type == "tensor(uint8)" else np.float32
                size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
                picture = cuda.view(addresses[entry.name], size_bytes).view(dtype).reshape(shape)
                began_s = time.perf_counter()
                answer = session.run([end.name], {entry.name: picture})[0]
                cuda.gpu_s += time.perf_counter() - began_s
                cuda.view(addresses[end.name], answer.nbytes)[:] = answer.ravel().view(np.uint8)

            work.scratch = scratch[0]  # type: ignore[attr-defined]
            return work

        def __del__(self) -> None:
            if self._weights:
                self._free(self._weights)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_made, "the base class was not initialised"
            self._logger = logger
            self.gpu_allocator: Any = None

        def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
            plan = bytes(serialized_engine)
            module.deserialized += 1
            size = int.from_bytes(plan[4:8], "little")
            header = json.loads(plan[8 : 8 + size]) if plan.startswith(_MAGIC) else {}
            if (header.get("version"), header.get("sm")) != (version, sm):
                self._logger.log(Severity.ERROR, "The engine plan file is not compatible with this version of TensorRT")
                return None
            assert self.gpu_allocator.is_made, "the base class was not initialised"
            try:
                return ICudaEngine(self._logger, self.gpu_allocator, header, plan[8 + size :])
            except MemoryError:
                self._logger.log(Severity.ERROR, "[defaultAllocator.cpp::allocate] Cuda failure 2: out of memory")
                return None

    module.deserialized = 0
    classes = (
        *(DataType, ElementWiseOperation, TopKOperation, MemoryPoolType, ExecutionContextAllocationStrategy, ILogger),
        *(IGpuAllocator, IProgressMonitor, IHostMemory, Permutation, Weights, ITensor, ILayer, IShuffleLayer),
        *(IConcatenationLayer, INetworkDefinition, ITimingCache, ParserError, OnnxParser, IBuilderConfig),
        *(Builder, IExecutionContext, ICudaEngine, Runtime),
    )
    for one in classes:
        setattr(module, one.__name__, one)
    module.BuilderFlag = _NewerFlag if major >= 11 else _OlderFlag
    module.float32, module.float16, module.uint8 = DataType.FLOAT, DataType.HALF, DataType.UINT8
    return module


def _round_to_half(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype == np.float32 and numbers.size > 1:
            tensor.CopyFrom(numpy_helper.from_array(numbers.astype(np.float16).astype(np.float32), tensor.name))


def _weight_bytes(model: onnx.ModelProto, *, halved: bool) -> int:
    size = sum(int(numpy_helper.to_array(tensor).nbytes) for tensor in model.graph.initializer)
    return max(512, size // 2 if halved else size)


def _scratch_bytes(model: onnx.ModelProto) -> int:
    """The largest tensor between two layers, twice: what goes in, and what comes out."""
    sizes = [1024]
    for info in model.graph.value_info:
        sides = [side.dim_value for side in info.type.tensor_type.shape.dim]
        sizes.append(int(np.prod(sides)) * 4 if sides and min(sides) > 0 else 0)
    return 2 * max(sizes)
