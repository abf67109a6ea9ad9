"""Frames of a camera source, taken as the camera process takes them."""

import numpy as np

from agent.capture.source import Image, Source


def frame_of(source: Source) -> Image:
    """Return the next frame."""
    given: list[Image] = []

    def buffer(height: int, width: int) -> Image:
        given.append(np.zeros((height, width, 3), np.uint8))
        return given[-1]

    assert source.grab()
    source.retrieve(buffer)
    return given[-1]


def unexpected(text: str) -> None:
    """Fail on a warning of a source."""
    raise AssertionError(text)
