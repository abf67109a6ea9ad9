"""How a prepared artifact runs on this device: what was chosen for it, and what that was measured to cost."""

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """What an artifact is served with, and what it takes so.

    `precision`: the runtime's inference precision ("f32", "bf16", "f16"); empty leaves it to the runtime. `batch`:
    pictures in one inference. `requests`: inferences under way together that the runtime gains from. `threads`: its
    threads; 0 leaves them to it.

    `load_ms`, `warmup_ms`: as a load measures them. `inference_ms`: from one answer to the next while `requests`
    pictures are under way. `bytes`: what the model brings to a process that has its runtime. All 0 where nothing was
    measured, as others had the cores; the rest is then the runtime's default.
    """

    precision: str = ""
    batch: int = 1
    requests: int = 1
    threads: int = 0
    load_ms: float = 0.0
    warmup_ms: float = 0.0
    inference_ms: float = 0.0
    bytes: int = 0

    @property
    def is_measured(self) -> bool:
        """Say whether the figures mean anything."""
        return self.inference_ms > 0

    def __str__(self) -> str:
        chosen = f"{self.precision or 'its own precision'}, {self.requests} at once"
        if not self.is_measured:
            return f"{chosen}, not measured: others had the cores"
        times = f"{self.inference_ms:.1f} ms a picture, load {self.load_ms:.0f} + {self.warmup_ms:.0f} ms"
        return f"{chosen}, {times}, {self.bytes / 1e6:.0f} MB resident"
