"""The comparison of two versions on a line, as a stream's pipeline uses it."""

from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.objects import Objects
from agent.messages.payloads import DetectedObject, ScoredLabel
from agent.processes.slots.frame_slot import Frame


@dataclass(frozen=True)
class Answer:
    """A model's answer to a frame; times are monotonic, in ns."""

    reference: str
    names: tuple[str, ...]
    answer: Objects
    """In pixels of the frame's image."""
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class LineAnswer:
    """The answer to a frame as it was published."""

    objects: list[DetectedObject]
    top: list[ScoredLabel] | msgspec.UnsetType
    latency_ms: float
    """Time of preprocessing, inference and decoding."""


class ComparedFrame(Protocol):
    """A frame of a comparison's share, copied out of its slot."""

    @property
    def is_candidates(self) -> bool:
        """True where the candidate answers the frame."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The frame, uint8 (h, w, 3) BGR."""

    def infer(self) -> Answer | None:
        """Have the candidate answer the frame; None where it does not in time, so that the line's model must."""

    def answered(self, answer: LineAnswer, *, by_candidate: bool) -> None:
        """Have the other model infer the frame in slack, and compare; returns at once."""


class Comparing(Protocol):
    """A comparison that runs on a line. Threading: any thread."""

    def take(self, stream: str, frame: Frame) -> ComparedFrame | None:
        """Copy a frame of the share; None for any other frame, and where it cannot be compared now."""

    def line_answered(self, latency_ms: float) -> None:
        """Count a frame that the line's model answered."""
