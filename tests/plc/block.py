"""FB_VisionInterlock of config/plc in Python, statement by statement; times are whole milliseconds, as TIME is."""

from dataclasses import dataclass
from typing import Final

LIMIT_MS: Final = 2500
"""The belt stops here, so that the way of a message and a cycle of the PLC fit within the 3 s of the rule."""
BEAT_MS: Final = 1050
"""A message is a second younger than the one before it; the rest lets trust grow back in twenty of them."""
APART_MS: Final = 500
"""Messages closer than this may have been held together, and say nothing of when the second was sent."""


class Ton:
    """The standard's on-delay timer, on a clock that is handed in."""

    def __init__(self) -> None:
        self.elapsed_ms = 0
        self.is_over = False
        self._since_ms: int | None = None

    def __call__(self, is_on: bool, preset_ms: int, now_ms: int) -> None:  # noqa: FBT001 - the standard's order
        if not is_on:
            self._since_ms, self.elapsed_ms, self.is_over = None, 0, False
            return
        if self._since_ms is None:
            self._since_ms = now_ms
        self.elapsed_ms = min(now_ms - self._since_ms, preset_ms)
        self.is_over = self.elapsed_ms >= preset_ms


@dataclass(frozen=True)
class Inputs:
    """The block's inputs for one call; `arrived` is true for one call at each message."""

    connected: bool
    arrived: bool
    retained: bool
    live: str
    product: str


class VisionInterlock:
    """One instance of the block. Called once a cycle, and once more for each message of the cycle."""

    def __init__(self) -> None:
        self.may_run = False
        self._gap = Ton()
        self._arrived_ms = LIMIT_MS
        self.age_ms = LIMIT_MS
        self._is_first = True
        self._is_beat = False
        self._last = ""
        self._before = ""

    def scan(self, inputs: Inputs, now_ms: int) -> bool:
        """Call the block; return whether the belt may run."""
        if inputs.product != self._before:
            self._last = ""
            self._before = inputs.product
        if not inputs.connected:
            self._is_first = True
        self._gap(True, LIMIT_MS, now_ms)
        self.age_ms = self._arrived_ms + self._gap.elapsed_ms
        if inputs.arrived and not inputs.retained:
            self._take(inputs.live, now_ms)
        self.may_run = self.age_ms < LIMIT_MS and self._last == inputs.product and inputs.product not in {"", "0"}
        return self.may_run

    def _take(self, live: str, now_ms: int) -> None:
        if self._is_first:
            if live != self._last:
                self.age_ms = LIMIT_MS
        else:
            if self._is_beat and live == self._last and live != "0" and self.age_ms < LIMIT_MS:
                self.age_ms = max(self.age_ms, BEAT_MS) - BEAT_MS
            if self._gap.elapsed_ms >= APART_MS:
                self.age_ms = min(self.age_ms, self._gap.elapsed_ms)
        self._is_beat = live == self._last and not self._is_first
        self._is_first = False
        self._last = live
        self._arrived_ms = min(self.age_ms, LIMIT_MS)
        self._gap(False, LIMIT_MS, now_ms)
        self._gap(True, LIMIT_MS, now_ms)
