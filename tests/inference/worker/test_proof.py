"""Equality of answers to a golden picture."""

import pytest

from agent.inference.validation.golden import compare
from agent.messages.payloads import DetectedObject

Box = tuple[float, float, float, float]
BOX: Box = (10, 10, 50, 50)
CONFIDENCE = 0.25


def item(score: float = 0.9, box: Box = BOX, label: str = "cap") -> DetectedObject:
    return DetectedObject(label=label, class_=0, score=score, box=box)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([], []),
        ([item()], [item()]),
        ([item(0.9)], [item(0.86)]),
        ([item()], [item(box=(12, 10, 52, 50))]),
        ([item(), item(box=(60, 60, 90, 90))], [item(box=(60, 60, 90, 90)), item()]),
        ([item(0.29)], []),
        ([], [item(0.27)]),
        ([item(0.3, box=(60, 60, 90, 90)), item()], [item()]),
    ],
)
def test_is_the_same(expected: list[DetectedObject], found: list[DetectedObject]) -> None:
    assert compare(expected, found, CONFIDENCE) is None


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ([item()], [], "no cap"),
        ([], [item()], "not expected"),
        ([item()], [item(label="no-cap")], "no cap"),
        ([item(0.9)], [item(0.84)], "scores 0.84"),
        ([item()], [item(box=(20, 10, 60, 50))], "no cap"),
        ([item(), item(box=(60, 60, 90, 90))], [item(), item()], "no cap"),
        ([item(0.31)], [], "no cap"),
    ],
)
def test_differs(expected: list[DetectedObject], found: list[DetectedObject], words: str) -> None:
    assert words in (compare(expected, found, CONFIDENCE) or "")
