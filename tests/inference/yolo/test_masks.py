"""Polygons of masks lie within a pixel of the mask's border, have few points, and take bounded time."""

import time
from typing import Final

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.inference.yolo.letterbox import Placement
from agent.inference.yolo.masks import MOST_POINTS, MOST_RINGS, Masks
from agent.inference.yolo.objects import Rings

SIDE: Final = 320
IMGSZ: Final = (SIDE, SIDE)
CELLS: Final = SIDE // 4
SAME: Final = Placement.of(IMGSZ, IMGSZ)
WHOLE: Final = np.array([[0, 0, SIDE, SIDE]], np.float32)
FINE: Final = 8
"""Parts of a pixel in which borders are compared."""
Array = NDArray[np.float32]


def blobs(seed: int, roughness: float) -> Array:
    """Draw a round shape with bays, as a prototype (1, rows, columns) that is positive in it."""
    dice = np.random.default_rng(seed)
    ys, xs = np.mgrid[:CELLS, :CELLS] * 4.0 + 2
    turn = np.arctan2(ys - 160, xs - 160)
    radius = dice.uniform(40, 110)
    wave = sum(dice.normal(0, roughness) * np.cos(count * turn + dice.uniform(0, 6)) for count in range(2, 7))
    prototype: Array = (3 * (1 + wave - np.hypot(xs - 160, ys - 160) / radius))[np.newaxis].astype(np.float32)
    return prototype


def polygons(prototype: Array, boxes: Array = WHOLE, placement: Placement = SAME) -> list[Rings]:
    shares = np.ones((len(boxes), 1), np.float32)
    return Masks(prototype, IMGSZ).polygons(shares, boxes, placement)


def fine_mask(prototype: Array) -> NDArray[np.uint8]:
    """Scale the mask to parts of a pixel, which shows where its border is."""
    scaled = cv2.resize(prototype[0], (SIDE * FINE, SIDE * FINE), interpolation=cv2.INTER_LINEAR)
    mask: NDArray[np.uint8] = (scaled > 0).astype(np.uint8)
    return mask


def drawn(rings: Rings) -> NDArray[np.uint8]:
    mask = np.zeros((SIDE * FINE, SIDE * FINE), np.uint8)
    for ring in rings:
        cv2.fillPoly(mask, [np.round(ring * FINE - 0.5).astype(np.int32)], (1,))
    return mask


def furthest(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the largest distance, in pixels, of a point on the border of one mask from the border of the other."""
    edges = [cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) for mask in (one, other)]
    away = cv2.distanceTransform(1 - edges[1], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(away[edges[0] > 0].max() / FINE)


@pytest.mark.parametrize("roughness", [0.0, 0.05, 0.12])
@pytest.mark.parametrize("seed", range(3))
def test_a_polygon_is_within_a_pixel_of_its_mask(seed: int, roughness: float) -> None:
    prototype = blobs(seed, roughness)
    (rings,) = polygons(prototype)
    assert all(3 <= len(ring) <= MOST_POINTS for ring in rings)
    mask, polygon = fine_mask(prototype), drawn(rings)
    assert furthest(polygon, mask) <= 1.0
    assert furthest(mask, polygon) <= 1.0
    assert np.count_nonzero(mask & polygon) / np.count_nonzero(mask | polygon) > 0.98
    assert np.count_nonzero(polygon) == pytest.approx(np.count_nonzero(mask), rel=0.015)  # not smaller, not larger


def test_a_mask_is_cut_to_the_pixels_that_begin_in_its_box() -> None:
    box = np.array([[100.3, 120.6, 190.2, 230.0]], np.float32)
    ((ring,),) = polygons(np.ones((1, CELLS, CELLS), np.float32), box)
    np.testing.assert_allclose((*ring.min(axis=0), *ring.max(axis=0)), (101, 121, 191, 230), atol=0.01)
    assert cv2.contourArea(ring) == pytest.approx(90 * 109, rel=0.001)


@pytest.mark.parametrize("imgsz", [(320, 320), (640, 640)])
def test_the_pixels_of_a_cut_mask_are_those_of_ultralytics(imgsz: tuple[int, int]) -> None:
    dice = np.random.default_rng(3)
    corners = dice.uniform(10, 200, (20, 2))
    boxes = np.concatenate((corners, corners + dice.uniform(12, 100, (20, 2))), axis=1).astype(np.float32)
    shares = np.ones((len(boxes), 1), np.float32)
    placement = Placement.of(imgsz, imgsz)
    masks = Masks(np.ones((1, imgsz[0] // 4, imgsz[1] // 4), np.float32), imgsz)
    rows, columns = np.mgrid[: imgsz[0], : imgsz[1]]
    for (ring,), box in zip(masks.polygons(shares, boxes, placement), boxes, strict=True):
        theirs = (columns >= box[0]) & (columns < box[2]) & (rows >= box[1]) & (rows < box[3])
        (left, top), (right, bottom) = ring.min(axis=0), ring.max(axis=0)
        ours = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        np.testing.assert_array_equal(ours, theirs)


def test_a_small_part_is_simplified_less() -> None:
    ys, xs = np.mgrid[:CELLS, :CELLS] * 4.0 + 2 - 160
    turn = 0.6
    along, across = xs * np.cos(turn) + ys * np.sin(turn), ys * np.cos(turn) - xs * np.sin(turn)
    prototype = (1 - np.hypot(along / 22, across / 9))[np.newaxis].astype(np.float32)
    box = np.array([[130, 130, 190, 190]], np.float32)
    (rings,) = polygons(prototype, box)
    mask, polygon = fine_mask(prototype), drawn(rings)
    assert np.count_nonzero(mask & polygon) / np.count_nonzero(mask | polygon) > 0.986  # 0.984 by half a pixel


def test_specks_beside_a_part_are_left_out() -> None:
    prototype = np.full((1, CELLS, CELLS), -1, np.float32)
    prototype[0, 10:50, 10:50] = 1
    prototype[0, 60:63, 60:63] = 1
    assert len(polygons(prototype)[0]) == 1
    prototype[0, 60:68, 60:68] = 1
    assert len(polygons(prototype)[0]) == 2


def test_parts_are_rings_of_their_own_the_largest_first_chosen() -> None:
    prototype = np.full((1, CELLS, CELLS), -1, np.float32)
    for number in range(MOST_RINGS + 3):
        prototype[0, 5 * (number // 4) * 3 + 4 :, :][: 3 + number % 2 * 4, 4 + 18 * (number % 4) :][:, :6] = 1
    (rings,) = polygons(prototype)
    assert len(rings) == MOST_RINGS
    assert min(map(cv2.contourArea, rings)) > 100


def test_a_point_is_a_square_and_nothing_is_none() -> None:
    prototype = np.full((1, CELLS, CELLS), -10, np.float32)
    assert polygons(prototype) == [()]
    prototype[0, 40, 40] = 11
    ((ring,),) = polygons(prototype)
    assert 1 <= cv2.contourArea(ring) < 16
    assert polygons(prototype, np.array([[0, 0, 20, 20], [330, 330, 340, 340]], np.float32)) == [(), ()]


def test_pixels_of_the_frame() -> None:
    placement = Placement.of((480, 640), IMGSZ)
    ((ring,),) = polygons(np.ones((1, CELLS, CELLS), np.float32), placement=placement)
    np.testing.assert_allclose((*ring.min(axis=0), *ring.max(axis=0)), (0, 0, 640, 480), atol=0.01)


def test_a_crowd_of_ragged_masks_is_bounded() -> None:
    dice = np.random.default_rng(0)
    masks = Masks(dice.normal(0, 1, (32, 160, 160)).astype(np.float32), (640, 640))
    shares = dice.normal(0, 1, (300, 32)).astype(np.float32)
    boxes = np.tile(np.array((0, 0, 640, 640), np.float32), (300, 1))
    began_s = time.thread_time()
    found = masks.polygons(shares, boxes, Placement.of((640, 640), (640, 640)))
    assert time.thread_time() - began_s < 10
    assert sum(len(ring) for rings in found for ring in rings) <= 6_000
