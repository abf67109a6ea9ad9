"""How a prepared artifact runs on this device: what was chosen for it, and what was measured."""

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """What an artifact is served with, and what that was measured to cost.

    `precision`: the runtime's inference precision ("f32", "bf16", "f16"); empty leaves it to the runtime. `batch`:
    pictures in one inference. `requests`: inferences under way together that the runtime gains from. `threads`: its
    threads; 0 leaves them to it. `load_ms`, `warmup_ms`: as a load measures them. `inference_ms`: between two answers
    while `requests` pictures are under way, median. `bytes`: what the model brought to a process of its own, less what
    its runtime keeps; 0 where nothing was measured.

    `is_alone`: nobody else had the cores meanwhile. Without it the times say nothing of the device, and the rest is the
    runtime's default.
    """

    precision: str = ""
    batch: int = 1
    requests: int = 1
    threads: int = 0
    load_ms: float = 0.0
    warmup_ms: float = 0.0
    inference_ms: float = 0.0
    bytes: int = 0
    is_alone: bool = False
