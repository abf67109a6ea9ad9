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
        """True where an amount from `Budget.shortage` lacks bytes in either pool."""
        return self.host_bytes > 0 or self.device_bytes > 0

    @property
    def missing_bytes(self) -> int:
        """Bytes that an amount from `Budget.shortage` lacks in both pools; room in one pool does not help the other."""
        return max(0, self.host_bytes) + max(0, self.device_bytes)

    @property
    def in_kib(self) -> str:
        """Both in KiB, for a sentence; GPU memory is left out where there is none."""
        host = f"{self.host_bytes >> 10} KiB"
        return f"{host} and {self.device_bytes >> 10} KiB of the GPU's" if self.device_bytes else host

    def __str__(self) -> str:
        return f"host {self.host_bytes / 1e6:.1f} MB, device {self.device_bytes / 1e6:.1f} MB"

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.host_bytes + other.host_bytes, self.device_bytes + other.device_bytes)

    def at_least(self, other: "Amount") -> "Amount":
        """Return the greater number of bytes of each kind."""
        return Amount(max(self.host_bytes, other.host_bytes), max(self.device_bytes, other.device_bytes))

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.host_bytes - other.host_bytes, self.device_bytes - other.device_bytes)


NOTHING: Final = Amount()


@dataclass(frozen=True)
class Budget:
    """Limit of each memory pool in bytes; `device_bytes` is None where no GPU has memory of its own."""

    host_bytes: int
    device_bytes: int | None = None

    def in_pools(self, amount: Amount) -> Amount:
        """Return the bytes that an amount takes from each pool; with a single pool, all are host memory."""
        return amount if self.device_bytes is not None else Amount(amount.total_bytes)

    def at_least(self, amount: Amount) -> "Budget":
        """Return the budget, raised where an amount takes more of a pool."""
        taken = self.in_pools(amount)
        device_bytes = None if self.device_bytes is None else max(self.device_bytes, taken.device_bytes)
        return Budget(max(self.host_bytes, taken.host_bytes), device_bytes)

    def shortage(self, amount: Amount) -> Amount:
        """Return the bytes by which an amount exceeds each pool's limit; negative where it fits."""
        return self.in_pools(amount) - Amount(self.host_bytes, self.device_bytes or 0)


def is_gpu(compute: str) -> bool:
    """Return True where a device setting names an NVIDIA GPU."""
    return compute.partition(":")[0].lower() in _GPUS


def is_in_device(backend: str, compute: str) -> bool:
    """Predict whether models of a backend are loaded into GPU memory; the load shows how much they take."""
    return backend == "tensorrt" or (backend in _ON_GPUS and is_gpu(compute))
