"""Models whose weights lie in counted GPU memory, beside one scratch block that all of them share."""

import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.inference.backends import choice
from agent.inference.backends.in_flight import InFlightLimiter
from agent.inference.memory.device_pool import DevicePool
from agent.inference.swapping import model_loading
from agent.inference.yolo.objects import Objects
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelReading, ModelVersion

KIB: Final = 1024
SCRATCH: Final = "scratch"
_NOBODY: Final = nullcontext()


@dataclass(frozen=True)
class Size:
    """Memory of one model."""

    weights: tuple[int, ...]
    """Bytes of each allocation."""
    scratch_bytes: int
    host_bytes: int

    @property
    def device_bytes(self) -> int:
        return sum(self.weights)


def random_size(dice: random.Random) -> Size:
    weights = tuple(dice.randrange(1, 60) * KIB for _ in range(dice.randrange(1, 5)))
    return Size(weights, dice.randrange(1, 80) * KIB, dice.randrange(64) * KIB)


class DeviceModel:
    """A model in GPU memory that answers nothing."""

    backend: Final = "tensorrt"
    processor: Final = ModelProcessor("tensorrt:0", "tensorrt", "10.3", "TensorRT")
    names: Final = ("cap",)
    imgsz: Final = (64, 64)
    reading: Final = ModelReading("detect", "v8")

    def __init__(self, runtime: "DeviceRuntime", owner: str, size: Size) -> None:
        self.places: Final = InFlightLimiter()
        self.size: Final = size
        self.leaks = False
        self._runtime: Final = runtime
        self._owner: Final = owner
        self._addresses: Final[list[int]] = []

    @property
    def device_bytes(self) -> int:
        return self._runtime.pool.used_by(self._owner)

    def allocate(self) -> None:
        for size_bytes in self.size.weights:
            self._addresses.append(self._runtime.pool.allocate(size_bytes, self._owner))

    def prepare(self, image: NDArray[np.uint8]) -> object:
        return image

    def answer(
        self, prepared: object, during: AbstractContextManager[object] = _NOBODY, *, here: bool = False
    ) -> Objects:
        del here
        del prepared
        with during:
            return _nothing()

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        del image
        return _nothing()

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        del image
        if self._runtime.fails_proof:
            raise ModelError("proof_failed", "the answer to a drawn picture holds NaN or infinity")
        return _nothing()

    def refuse(self, why: str) -> None:
        raise AssertionError(why)

    def close(self) -> None:
        keep = 1 if self.leaks else 0
        while len(self._addresses) > keep:
            self._runtime.pool.free(self._addresses.pop())
        self._runtime.closed(self)

    def free_leaked(self) -> None:
        while self._addresses:
            self._runtime.pool.free(self._addresses.pop())


@dataclass
class DeviceRuntime:
    """Loads such models; the scratch block grows to what the largest needs, and goes with the last of them."""

    pool: DevicePool
    sizes: dict[str, Size] = field(default_factory=dict)
    fails_proof: bool = False
    models: list[DeviceModel] = field(default_factory=list)
    _scratch: tuple[int, int] = (0, 0)

    def load(self, version: ModelVersion, compute: str, cache_dir: Path) -> DeviceModel:
        del compute, cache_dir
        model = DeviceModel(self, version.reference, self.sizes[version.name])
        try:
            model.allocate()
            self._grow_scratch(model.size.scratch_bytes)
        except BaseException:
            model.close()
            raise
        self.models.append(model)
        return model

    def closed(self, model: DeviceModel) -> None:
        if model in self.models:
            self.models.remove(model)
        if not self.models:
            self.pool.free(self._scratch[0])
            self._scratch = (0, 0)

    def host_bytes(self) -> int:
        return (1 << 20) + sum(one.size.host_bytes for one in self.models)

    def _grow_scratch(self, size_bytes: int) -> None:
        if size_bytes > self._scratch[1]:
            address = self.pool.allocate(size_bytes, SCRATCH)
            self.pool.free(self._scratch[0])
            self._scratch = (address, size_bytes)


def _nothing() -> Objects:
    return Objects(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


def let_gpus_start(patch: pytest.MonkeyPatch) -> None:
    """Let loads go on for which this device has neither card nor runtime; the models are stand-ins."""
    for module in (choice, model_loading):
        patch.setattr(module, "require_processor", lambda _version, _backend, _compute: None)
