"""Amounts of host and GPU memory, and the budgets of the pools that they are charged to."""

from dataclasses import dataclass
from typing import Final

_GPUS: Final = ("cuda", "tensorrt")
_ON_GPUS: Final = ("onnxruntime", "ultralytics")


@dataclass(frozen=True)
class Amount:
    """Bytes of host memory and of GPU memory."""

    host_bytes: int = 0
    device_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of both, which is what a GPU takes of memory that it shares with the processor."""
        return self.host_bytes + self.device_bytes

    @property
    def is_short(self) -> bool:
        """Return True for a shortage: bytes are missing in one pool or the other."""
        return self.host_bytes > 0 or self.device_bytes > 0

    @property
    def missing_bytes(self) -> int:
        """The bytes that a shortage misses; a pool with room to spare does not help the other."""
        return max(0, self.host_bytes) + max(0, self.device_bytes)

    def __str__(self) -> str:
        return f"host {self.host_bytes / 1e6:.1f} MB, device {self.device_bytes / 1e6:.1f} MB"

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.host_bytes + other.host_bytes, self.device_bytes + other.device_bytes)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.host_bytes - other.host_bytes, self.device_bytes - other.device_bytes)


NOTHING: Final = Amount()


@dataclass(frozen=True)
class Budget:
    """Limits of the pools; `device_bytes` is None where there is one, because a GPU, if any, shares its memory."""

    host_bytes: int
    device_bytes: int | None = None

    def in_pools(self, amount: Amount) -> Amount:
        """Return what an amount takes of each pool; with one pool, all of it is the host's."""
        return amount if self.device_bytes is not None else Amount(amount.total_bytes)

    def shortage(self, amount: Amount) -> Amount:
        """Return by what an amount exceeds each pool; a negative number where it fits."""
        return self.in_pools(amount) - Amount(self.host_bytes, self.device_bytes or 0)


def is_gpu(compute: str) -> bool:
    """Return True where a device setting names an NVIDIA GPU."""
    return compute.partition(":")[0].lower() in _GPUS


def is_in_device(backend: str, compute: str) -> bool:
    """Return True where models of a backend are expected in GPU memory; what they take there is seen at the load."""
    return backend == "tensorrt" or (backend in _ON_GPUS and is_gpu(compute))
