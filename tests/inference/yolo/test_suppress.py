"""Suppression against a plain implementation of its definition, and its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.inference.yolo.layouts import MAX_OBJECTS
from agent.inference.yolo.suppression import upright as suppression
from agent.inference.yolo.suppression.upright import MAX_CANDIDATES, suppress


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(common / (sum(areas) - common))


def by_definition(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int32], iou: float
) -> list[int]:
    kept: list[int] = []
    exact = boxes.astype(np.float64)
    for index in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if classes[other] == classes[index]]
        if all(overlap(exact[other], exact[index]) <= iou for other in rivals):
            kept.append(int(index))
    return kept


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), iou=st.sampled_from([0.3, 0.45, 0.7]))
def test_it_is_its_definition(seed: int, count: int, iou: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-40, 60, (count, 2))
    boxes = np.concatenate((corners, corners + random.uniform(5, 60, (count, 2))), axis=1).astype(np.float32)
    scores = random.uniform(0.25, 1, count).astype(np.float32)
    classes = random.integers(0, 3, count).astype(np.int32)
    assert suppress(boxes, scores, classes, iou).tolist() == by_definition(boxes, scores, classes, iou)


def test_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[-30, -30, 50, 50], [-30, -30, 50, 50]], np.float32)
    kept = suppress(boxes, np.array([0.5, 0.6], np.float32), np.array([0, 1], np.int32), 0.7)
    assert kept.tolist() == [1, 0]


def test_no_more_than_the_limit_stay() -> None:
    left = np.arange(400, dtype=np.float32) * 10
    boxes = np.stack((left, np.zeros_like(left), left + 5, np.full_like(left, 5)), axis=1)
    kept = suppress(boxes, np.linspace(0.3, 0.9, 400, dtype=np.float32), np.zeros(400, np.int32), 0.7)
    assert kept.tolist() == list(range(399, 399 - MAX_OBJECTS, -1))


@pytest.mark.parametrize("scores", ["equal", "falling", "rising", "by chance"])
def test_of_many_candidates_only_the_best_are_compared(monkeypatch: pytest.MonkeyPatch, scores: str) -> None:
    compared = count_pairs(monkeypatch)
    count = 25_200
    random = np.random.default_rng(3)
    steps = np.linspace(0.3, 0.9, count, dtype=np.float32)
    given = {"equal": np.full(count, 0.9, np.float32), "falling": steps[::-1], "rising": steps}
    chosen = given.get(scores, random.permutation(steps).astype(np.float32))
    left = np.arange(count, dtype=np.float32) * 4
    boxes = np.stack((left, np.zeros_like(left), left + 2, np.full_like(left, 2)), axis=1)
    kept = suppress(boxes, chosen, np.zeros(count, np.int32), 0.7)
    assert kept.tolist() == np.argsort(-chosen, kind="stable")[:MAX_OBJECTS].tolist()
    assert sum(compared) < 140_000, "of 635 million pairs: three chunks, and what is left of 512 after each"


@pytest.mark.parametrize("clusters", [1, 40, 299])
def test_rivals_of_what_is_kept_are_compared_to_that_alone(monkeypatch: pytest.MonkeyPatch, clusters: int) -> None:
    compared = count_pairs(monkeypatch)
    count = 25_200
    random = np.random.default_rng(4)
    left = (np.arange(count, dtype=np.float32) % clusters) * 100
    boxes = np.stack((left, np.zeros_like(left), left + 50, np.full_like(left, 50)), axis=1)
    scores = random.permutation(np.linspace(0.3, 0.9, count)).astype(np.float32)
    assert len(suppress(boxes, scores, np.zeros(count, np.int32), 0.7)) == clusters
    assert sum(compared) < count * min(clusters, 64) + 2 * 1024 * 1024


def count_pairs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    compared: list[int] = []
    overlaps = suppression._overlaps

    def counted(ones: suppression._Boxes, others: suppression._Boxes, iou: float) -> NDArray[np.bool_]:
        compared.append(len(ones.classes) * len(others.classes))
        return overlaps(ones, others, iou)

    monkeypatch.setattr(suppression, "_overlaps", counted)
    return compared


def plainly(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int32], iou: float
) -> list[int]:
    """Compare each box that is kept with all others, in float32 as torch does."""
    kept: list[int] = []
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    is_gone = np.zeros(len(boxes), bool)
    for index in np.argsort(-scores, kind="stable").tolist():
        if is_gone[index]:
            continue
        kept.append(index)
        width = np.maximum(np.minimum(right, right[index]) - np.maximum(left, left[index]), 0)
        height = np.maximum(np.minimum(bottom, bottom[index]) - np.maximum(top, top[index]), 0)
        shared = width * height
        with np.errstate(divide="ignore", invalid="ignore"):
            overlaps = shared / (areas[index] + areas - shared)
        is_gone |= (overlaps > np.float32(iou)) & (classes == classes[index])
    return kept[:MAX_OBJECTS]


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1_025, 5_000),
    iou=st.sampled_from([0.0, 0.05, 0.3, 0.45, 0.5, 0.7, 0.95, 1.0]),
    spread=st.sampled_from([0.0, 1.0, 30.0, 600.0]),
    largest=st.sampled_from([0.0, 4.0, 120.0, 1_000.0]),
)
def test_crowds_of_any_kind_are_suppressed_as_plainly(
    seed: int, count: int, iou: float, spread: float, largest: float
) -> None:
    random = np.random.default_rng(seed)
    middles = random.uniform(-50, 700, (int(random.integers(1, 60)), 2))
    corners = middles[random.integers(0, len(middles), count)] + random.normal(0, spread, (count, 2))
    sides = random.uniform(-0.1 * largest, largest, (count, 2))  # some heads give a side below 0
    boxes = np.concatenate((corners, corners + sides), axis=1).astype(np.float32)
    scores = random.choice(np.linspace(0.25, 1, 300), count).astype(np.float32)  # many are equal
    classes = random.integers(0, random.choice([1, 3, 80]), count).astype(np.int32)
    assert suppress(boxes, scores, classes, iou).tolist() == plainly(boxes, scores, classes, iou)


def test_the_worst_of_too_many_candidates_are_not_looked_at() -> None:
    count = MAX_CANDIDATES + 100
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (count, 1))
    boxes[50] += 100  # apart from all others
    scores = np.full(count, 0.9, np.float32)
    for score, stays in ((0.9, [0, 50]), (0.3, [0])):
        scores[50] = score
        assert suppress(boxes, scores, np.zeros(count, np.int32), 0.7).tolist() == stays


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 10_000), count=st.integers(2_049, 4_000))
def test_many_are_suppressed_as_few_are(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 400, (count, 2))
    boxes = np.concatenate((corners, corners + random.uniform(60, 200, (count, 2))), axis=1).astype(np.float32)
    scores = random.choice(np.linspace(0.25, 1, 50), count).astype(np.float32)  # many are equal
    classes = random.integers(0, 2, count).astype(np.int32)
    found = suppress(boxes, scores, classes, 0.45).tolist()
    assert found == by_definition(boxes, scores, classes, 0.45)[:MAX_OBJECTS]


@pytest.mark.torch
def test_it_is_what_torchvision_does() -> None:
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    random = np.random.default_rng(7)
    corners = random.uniform(0, 500, (2000, 2))
    boxes = np.concatenate((corners, corners + random.uniform(20, 200, (2000, 2))), axis=1).astype(np.float32)
    scores = random.uniform(0.25, 1, 2000).astype(np.float32)
    classes = random.integers(0, 5, 2000).astype(np.int32)
    theirs = torchvision.ops.batched_nms(*map(torch.from_numpy, (boxes, scores, classes)), 0.7)[:MAX_OBJECTS]
    assert suppress(boxes, scores, classes, 0.7).tolist() == theirs.tolist()
