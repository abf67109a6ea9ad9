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


def pixels_of(prototype: Array, box: Array) -> NDArray[np.uint8]:
    """Return the mask's pixels as ultralytics has them: positive, and begun in the box."""
    scaled = cv2.resize(prototype[0], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = (columns >= box[0]) & (columns < box[2]) & (rows >= box[1]) & (rows < box[3])
    mask: NDArray[np.uint8] = ((scaled > 0) & inside).astype(np.uint8)
    return mask


def overlap(rings: Rings, mask: NDArray[np.uint8]) -> float:
    """Return the IoU of polygons and a mask's pixels, of four by four points in each pixel."""
    parts = 4
    low = np.floor(np.min([*(ring.min(axis=0) for ring in rings), np.argwhere(mask).min(axis=0)[::-1]], axis=0))
    high = np.ceil(np.max([*(ring.max(axis=0) for ring in rings), np.argwhere(mask).max(axis=0)[::-1] + 1], axis=0))
    columns, rows = (np.arange(*ends) / parts + 0.5 / parts for ends in zip(low * parts, high * parts, strict=True))
    x, y = np.meshgrid(columns, rows)
    filled = np.zeros(x.shape, bool)
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
            if y1 != y2:
                filled ^= ((y1 <= y) != (y2 <= y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    wanted = mask[np.clip(y.astype(int), 0, SIDE - 1), np.clip(x.astype(int), 0, SIDE - 1)] > 0
    return float(np.count_nonzero(filled & wanted) / np.count_nonzero(filled | wanted))


EVERYWHERE: Final = np.ones((1, CELLS, CELLS), np.float32)


@pytest.mark.parametrize("length", [1, 2, 3, 40, 250])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("begin", [(0, 0), (30, 41), (SIDE - 3, SIDE - 3)])
def test_a_thin_cut_has_the_area_of_its_pixels(begin: tuple[int, int], width: int, length: int) -> None:
    for wide, high in ((width, length), (length, width)):
        left, top = begin
        box = np.array([[left, top, min(left + wide, SIDE), min(top + high, SIDE)]], np.float32)
        (rings,) = polygons(EVERYWHERE, box)
        assert overlap(rings, pixels_of(EVERYWHERE, box[0])) > 0.97


def line(angle: float, half: float, offset: float = 0.0) -> Array:
    """Draw a line through the middle, 160 pixels long, `half` cells and what scaling leaves of it to each side."""
    ys, xs = np.mgrid[:CELLS, :CELLS].astype(np.float32) - CELLS / 2 + 0.5
    turn = np.deg2rad(angle)
    along, across = xs * np.cos(turn) + ys * np.sin(turn), ys * np.cos(turn) - xs * np.sin(turn) + offset
    found: Array = np.minimum(half - np.abs(across), 20 - np.abs(along))[np.newaxis].astype(np.float32)
    return found


@pytest.mark.parametrize("offset", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("half", [0.55, 0.65, 0.8, 1.0])
@pytest.mark.parametrize("angle", [0, 90, 45, -45, 20, 70])
def test_a_scratch_has_an_area(angle: float, half: float, offset: float) -> None:
    prototype = line(angle, half, offset)
    (rings,) = polygons(prototype)
    mask, fine, polygon = pixels_of(prototype, WHOLE[0]), fine_mask(prototype), drawn(rings)
    pixels = np.count_nonzero(mask)
    assert sum(map(cv2.contourArea, rings)) == pytest.approx(pixels, rel=0.4)
    assert overlap(rings, mask) > (0.75 if angle % 90 == 0 else 0.5)
    if len(rings) == 1:
        assert furthest(polygon, fine) <= 1 + 1 / FINE


def test_a_thin_part_beside_a_larger_one_is_told() -> None:
    box = np.array([[0, 0, 81, SIDE]], np.float32)
    prototype = np.full((1, CELLS, CELLS), -1, np.float32)
    prototype[0, 5:15, 2:12] = 1
    prototype[0, 20:70, 20:] = 1
    (rings,) = polygons(prototype, box)
    assert len(rings) == 2
    assert overlap(rings, pixels_of(prototype, box[0])) > 0.97


@pytest.mark.parametrize("mask", ["full", "edge"])
def test_a_crowd_loses_no_object(mask: str) -> None:
    side, cells = 640, 160
    prototype = np.ones((1, cells, cells), np.float32)
    if mask == "edge":  # positive in the box only between the cells
        prototype[0, :, 25] = -0.5
    small = [(100.3 + at, 100.3 + at, 101.3 + at + size, 103.2 + at) for at in range(5) for size in (0, 1, 3, 9, 60)]
    boxes = np.array([(0, 0, side, side)] * 21 + small, np.float32)
    masks, placement = Masks(prototype, (side, side)), Placement.of((side, side), (side, side))
    crowd = masks.polygons(np.ones((len(boxes), 1), np.float32), boxes, placement)
    for box, rings in zip(boxes[21:], crowd[21:], strict=True):
        (alone,) = Masks(prototype, (side, side)).polygons(np.ones((1, 1), np.float32), box[np.newaxis], placement)
        assert bool(rings) == bool(alone)
        assert all(cv2.contourArea(ring) > 0.4 for ring in rings)
        if mask == "full":
            assert sum(map(cv2.contourArea, rings)) == pytest.approx(sum(map(cv2.contourArea, alone)), rel=0.05)


def test_a_crowd_of_scratches_has_areas() -> None:
    prototype = line(30, 0.7)
    boxes = np.repeat(WHOLE, 300, axis=0)
    for rings in polygons(prototype, boxes):
        assert sum(map(cv2.contourArea, rings)) > 0.5 * np.count_nonzero(pixels_of(prototype, WHOLE[0]))


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
