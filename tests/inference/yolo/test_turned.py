"""Suppression of turned boxes against a plain implementation of its definition, and its limits."""

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.inference.yolo.layouts import MAX_OBJECTS
from agent.inference.yolo.suppression.turned import corners_of, suppress

Array = NDArray[np.float32]


def covariance(box: NDArray[np.float64]) -> NDArray[np.float64]:
    turn = np.array([[np.cos(box[4]), -np.sin(box[4])], [np.sin(box[4]), np.cos(box[4])]])
    own: NDArray[np.float64] = turn @ np.diag((box[2] ** 2 / 12, box[3] ** 2 / 12)) @ turn.T
    return own


def prob_iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """One minus the Hellinger distance of two Gaussians, by the formulas of the paper."""
    mine, its = covariance(one), covariance(other)
    mean = (mine + its) / 2
    apart = one[:2] - other[:2]
    distance = apart @ np.linalg.inv(mean) @ apart / 8
    distance += 0.5 * np.log(np.linalg.det(mean) / np.sqrt(np.linalg.det(mine) * np.linalg.det(its)))
    return 1 - math.sqrt(max(0.0, 1 - math.exp(-distance)))


def by_definition(boxes: Array, scores: Array, classes: NDArray[np.int32], iou: float) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    exact = boxes.astype(np.float64)
    return [
        int(one)
        for rank, one in enumerate(order)
        if not any(
            classes[one] == classes[other] and prob_iou(exact[one], exact[other]) > iou for other in order[:rank]
        )
    ][:MAX_OBJECTS]


def crowd(count: int, seed: int, spread: float = 40) -> tuple[Array, Array, NDArray[np.int32]]:
    dice = np.random.default_rng(seed)
    places = dice.uniform(0, spread, (count, 2)) + 100
    boxes = np.column_stack((places, dice.uniform(8, 60, (count, 2)), dice.uniform(-0.8, 2.4, count)))
    return (
        boxes.astype(np.float32),
        dice.uniform(0.3, 1, count).astype(np.float32),
        dice.integers(0, 2, count, np.int32),
    )


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.45, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_definition_says(seed: int, iou: float) -> None:
    boxes, scores, classes = crowd(150, seed)
    assert suppress(boxes, scores, classes, iou).tolist() == by_definition(boxes, scores, classes, iou)


def test_a_dropped_box_drops_others() -> None:
    """Three in a row: the middle one goes for the first, and the last for the middle one."""
    boxes = np.array([[0, 0, 40, 20, 0.3], [6, 0, 40, 20, 0.3], [12, 0, 40, 20, 0.3]], np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int32)
    assert prob_iou(boxes[0].astype(float), boxes[2].astype(float)) < 0.7
    assert suppress(boxes, scores, classes, 0.7).tolist() == [0]
    assert suppress(boxes[:0], scores[:0], classes[:0], 0.7).tolist() == []


def test_half_a_turn_and_swapped_sides_are_the_same_box() -> None:
    same = [[50, 50, 40, 20, 0.3], [50, 50, 40, 20, 0.3 + np.pi], [50, 50, 20, 40, 0.3 + np.pi / 2]]
    boxes = np.array(same, np.float32)
    assert suppress(boxes, np.array([0.5, 0.6, 0.4], np.float32), np.zeros(3, np.int32), 0.9).tolist() == [1]


def test_no_more_than_the_most_are_kept() -> None:
    count = 400
    boxes = np.column_stack((np.arange(count) * 100, np.zeros(count), np.full((count, 2), 20), np.zeros(count)))
    kept = suppress(boxes.astype(np.float32), np.linspace(0.3, 0.9, count, dtype=np.float32), np.zeros(count, int), 0.7)
    assert kept.tolist() == list(range(count - 1, count - 1 - MAX_OBJECTS, -1))


@pytest.mark.parametrize("clusters", [1, 299])
def test_a_crowd_is_bounded(clusters: int) -> None:
    count = 21_504  # all anchors of an input of 1024
    dice = np.random.default_rng(1)
    centres = np.column_stack(((np.arange(clusters) % 20) * 50, (np.arange(clusters) // 20) * 60)) + 20
    boxes = np.empty((count, 5), np.float32)
    boxes[:, :2] = centres[dice.integers(0, clusters, count)] + dice.normal(0, 0.1, (count, 2))
    boxes[:, 2:] = (40, 30, 0.5)
    scores = dice.uniform(0.3, 1, count).astype(np.float32)
    began_s = time.thread_time()
    kept = suppress(boxes, scores, np.zeros(count, np.int32), 0.7)
    assert len(kept) == clusters
    assert time.thread_time() - began_s < 5, "all pairs would take a minute and gigabytes"


def test_corners_go_clockwise_from_the_upper_left() -> None:
    (upright,) = corners_of(np.array([[10, 20, 8, 4]], np.float32), np.zeros(1, np.float32)).tolist()
    assert upright == [[6, 18], [14, 18], [14, 22], [6, 22]]
    (turned,) = corners_of(np.array([[0, 0, 8, 4]], np.float32), np.array([np.pi / 2], np.float32)).tolist()
    np.testing.assert_allclose(turned, [[2, -4], [2, 4], [-2, 4], [-2, -4]], atol=1e-5)
