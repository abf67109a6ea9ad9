"""Steadiness of a model's answers when the picture moves by some pixels."""

import numpy as np
import pytest

from agent.inference.comparing.steadiness import MOVES, move_of, moved, unsteadiness
from agent.messages.payloads import DetectedObject

SIZE = (480, 640)
MOVE = MOVES[0]
RIGHT, DOWN = 16, 12


def found(x: float, y: float, score: float = 0.9, label: str = "cap") -> DetectedObject:
    return DetectedObject(label, 0, score, (x, y, x + 100, y + 100))


def test_a_picture_is_moved_by_whole_pixels_and_its_edges_are_repeated() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8)
    for move in MOVES:
        right, down = round(move[0] * SIZE[1]), round(move[1] * SIZE[0])
        other = moved(pixels, move)
        assert other.shape == pixels.shape
        assert right
        assert down
        inner = pixels[50:-50, 50:-50]
        assert np.array_equal(other[50 + down : SIZE[0] - 50 + down, 50 + right : SIZE[1] - 50 + right], inner)
    assert np.array_equal(moved(pixels, MOVE)[0, RIGHT:], pixels[0, :-RIGHT])
    assert move_of(0) != move_of(1)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([found(200 + RIGHT, 200 + DOWN)], 0.0),
        ([found(210 + RIGHT, 200 + DOWN)], 1 - 91 / 111),
        ([], 1.0),
        ([found(200 + RIGHT, 200 + DOWN, label="no-cap")], 1.0),
        ([found(200 + RIGHT, 200 + DOWN), found(400, 300)], 0.5),
        ([found(200 + RIGHT, 200 + DOWN), found(400, 300, score=0.28)], 0.0),
    ],
)
def test_it_is_what_the_overlap_of_its_objects_lacks(after: list[DetectedObject], expected: float) -> None:
    assert unsteadiness([found(200, 200)], after, MOVE, SIZE, 0.25) == pytest.approx(expected)


def test_of_a_crowd_the_surest_objects_count() -> None:
    crowd = [found(100 + 4 * number, 300, score=0.9 - number / 200) for number in range(90)]
    after = [found(one.box[0] + RIGHT, one.box[1] + DOWN, one.score) for one in crowd]
    assert unsteadiness(crowd, after, MOVE, SIZE, 0.25) == pytest.approx(0.0)
    assert unsteadiness(crowd, after[:32], MOVE, SIZE, 0.25) == pytest.approx(0.5, abs=0.1)


def test_an_object_at_the_margin_is_the_same_on_either_side_of_it() -> None:
    outside, inside = found(SIZE[1] / 20 - 1, 200), found(SIZE[1] / 20 + 1 + RIGHT, 200 + DOWN)
    assert unsteadiness([outside], [inside], MOVE, SIZE, 0.25) is None


def test_what_the_edge_cuts_off_and_what_is_near_the_threshold_says_nothing() -> None:
    at_the_edge, near = found(-20, 200), found(300, 300, score=0.27)
    assert unsteadiness([at_the_edge, near], [], MOVE, SIZE, 0.25) is None
    assert unsteadiness([], [], MOVE, SIZE, 0.25) is None
