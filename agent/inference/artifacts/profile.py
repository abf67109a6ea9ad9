"""The runtime options of an artifact on this device, and its measured times and memory."""

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """Runtime options of one artifact, and measured figures, all 0 where other processes used the cores meanwhile."""

    precision: str = ""
    """The runtime's inference precision ("f32", "bf16", "f16"); empty: the runtime chooses."""
    batch: int = 1
    """Pictures in one inference."""
    requests: int = 1
    """Inferences that run at the same time."""
    threads: int = 0
    """Threads of the runtime; 0: the runtime chooses."""
    load_ms: float = 0.0
    """Duration of a load."""
    warmup_ms: float = 0.0
    """Duration of the first inferences after the load."""
    inference_ms: float = 0.0
    """Time from one answer to the next while `requests` pictures are in flight."""
    bytes: int = 0
    """Memory that the loaded model adds to a process that already has the runtime."""
    power_mode: str = ""
    """A Jetson's power mode in which the figures were measured."""

    @property
    def is_measured(self) -> bool:
        """True where the figures were measured."""
        return self.inference_ms > 0

    def holds_in(self, power_mode: str) -> bool:
        """Return True where the figures were measured, in the given power mode."""
        return self.is_measured and self.power_mode == power_mode

    def __str__(self) -> str:
        chosen = f"{self.precision or 'its own precision'}, {self.requests} at once"
        if not self.is_measured:
            return f"{chosen}, not measured: others had the cores"
        times = f"{self.inference_ms:.1f} ms a picture, load {self.load_ms:.0f} + {self.warmup_ms:.0f} ms"
        mode = f", in power mode {self.power_mode}" if self.power_mode else ""
        return f"{chosen}, {times}, {self.bytes / 1e6:.0f} MB resident{mode}"
