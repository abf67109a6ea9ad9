"""The letterbox against ultralytics' own arithmetic, and boxes there and back."""

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.inference.yolo.letterbox import PAD, Canvas, Fit, Placement

SIDES = st.integers(8, 2000)


@given(height=SIDES, width=SIDES, rows=st.sampled_from([64, 320, 640]), columns=st.sampled_from([64, 416, 640]))
def test_boxes_find_back_to_the_picture(height: int, width: int, rows: int, columns: int) -> None:
    placement = Placement.of((height, width), (rows, columns))
    box = np.array([[width * 0.1, height * 0.2, width * 0.7, height * 0.9]], np.float32)
    shift = np.array([placement.left, placement.top] * 2, np.float32)
    back = placement.to_picture(box * np.float32(placement.gain) + shift)
    np.testing.assert_allclose(back, box, rtol=1e-3, atol=1e-2)


@given(height=SIDES, width=SIDES)
def test_the_picture_lies_within_the_input(height: int, width: int) -> None:
    placement = Placement.of((height, width), (640, 640))
    scaled_width, scaled_height = placement.scaled
    assert placement.left >= 0
    assert placement.top >= 0
    assert placement.left + scaled_width <= 640
    assert placement.top + scaled_height <= 640


def test_boxes_outside_are_clipped_to_the_picture() -> None:
    placement = Placement.of((480, 640), (640, 640))
    boxes = placement.to_picture(np.array([[-20, 0, 700, 640]], np.float32))
    np.testing.assert_array_equal(boxes, [[0, 0, 640, 480]])


def test_padding_is_grey_and_odd_padding_goes_below() -> None:
    canvas = Canvas((64, 64))
    placement = canvas.draw(np.full((33, 64, 3), 7, np.uint8))
    assert (placement.top, placement.left) == (15, 0)
    assert (canvas.pixels[:15] == PAD).all()
    assert (canvas.pixels[15:48] == 7).all()
    assert (canvas.pixels[48:] == PAD).all()


def test_a_canvas_forgets_the_picture_before() -> None:
    canvas = Canvas((64, 64))
    canvas.draw(np.full((64, 64, 3), 1, np.uint8))
    canvas.draw(np.full((128, 32, 3), 2, np.uint8))
    assert set(np.unique(canvas.pixels)) == {2, PAD}
    canvas.draw(np.full((32, 128, 3), 3, np.uint8))
    assert set(np.unique(canvas.pixels)) == {3, PAD}


def test_scaling_writes_into_the_canvas_itself() -> None:
    canvas = Canvas((64, 64))
    pixels = canvas.pixels
    canvas.draw(np.full((500, 300, 3), 9, np.uint8))
    assert canvas.pixels is pixels
    assert (pixels[:, 32] == 9).all()


def test_the_picture_may_be_overwritten_afterwards() -> None:
    canvas = Canvas((64, 64))
    picture = np.full((64, 64, 3), 5, np.uint8)
    canvas.draw(picture)
    picture.fill(0)
    assert (canvas.pixels == 5).all()


def test_a_picture_thinner_than_a_pixel_still_has_one() -> None:
    canvas = Canvas((64, 64))
    canvas.draw(np.full((2000, 3, 3), 5, np.uint8))
    assert (canvas.pixels == 5).any()


def test_a_stretched_picture_fills_the_canvas_and_leaves_no_trace_of_the_one_before() -> None:
    canvas = Canvas((64, 96))
    canvas.draw(np.full((10, 10, 3), 200, np.uint8))
    placement = canvas.draw(np.full((30, 20, 3), 50, np.uint8), Fit.STRETCHED)
    assert (canvas.pixels == 50).all()
    boxes = np.array([[0, 0, 48, 32], [24, 32, 144, 64]], np.float32)
    np.testing.assert_allclose(placement.to_picture(boxes), [[0, 0, 10, 15], [5, 15, 20, 30]])
    canvas.draw(np.full((64, 64, 3), 7, np.uint8))
    assert (canvas.pixels[:, :16] == PAD).all()
    assert (canvas.pixels[:, 16:80] == 7).all()


def test_a_picture_in_the_corner_leaves_grey_to_the_right_and_below() -> None:
    canvas = Canvas((64, 64))
    placement = canvas.draw(np.full((32, 128, 3), 7, np.uint8), Fit.CORNER)
    assert (canvas.pixels[:16] == 7).all()
    assert (canvas.pixels[16:] == PAD).all()
    np.testing.assert_allclose(placement.to_picture(np.array([[8, 4, 16, 8]], np.float32)), [[16, 8, 32, 16]])


@pytest.mark.parametrize(("height", "width"), [(50, 90), (90, 50), (64, 64), (7, 301), (63, 64), (5, 5)])
def test_a_covering_picture_that_grows_is_its_middle_as_scaled_whole(height: int, width: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    canvas = Canvas((64, 64))
    placement = canvas.draw(picture, Fit.COVERING)
    whole = cv2.resize(picture, placement.scaled, interpolation=cv2.INTER_LINEAR)
    middle = whole[-placement.top :, -placement.left :][:64, :64]
    assert np.abs(canvas.pixels.astype(int) - middle).max() <= 1, "OpenCV rounds weights to eleven bits"


@pytest.mark.parametrize(("height", "width"), [(1, 3000), (3000, 1), (2, 16_000)])
def test_a_covering_picture_of_any_shape_takes_little_memory(height: int, width: int) -> None:
    picture, canvas = np.full((height, width, 3), 7, np.uint8), Canvas((224, 224))
    tracemalloc.start()
    canvas.draw(picture, Fit.COVERING)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (canvas.pixels == 7).all()
    assert peak_bytes < 8 << 20


@given(height=SIDES, width=SIDES, side=st.sampled_from([64, 224, 640]))
def test_a_covering_picture_is_as_large_as_torchvisions(height: int, width: int, side: int) -> None:
    short, long = sorted((height, width))
    scaled = Placement.of((height, width), (side, side), Fit.COVERING).scaled
    assert sorted(scaled) == [side, int(side * long / short)]
    assert scaled[0] == scaled[1] or (scaled[0] > scaled[1]) == (width > height)


def pillows(picture: NDArray[np.uint8], scaled: tuple[int, int]) -> NDArray[np.float64]:
    """Scale as Pillow's bilinear resizing does (its `Resample.c`): triangles as wide as two scaled pixels a side."""
    whole = picture.astype(np.float64)
    for axis, count in ((0, scaled[1]), (1, scaled[0])):
        side = picture.shape[axis]
        scale = side / count
        distance = np.abs((np.arange(side) + 0.5) - (np.arange(count)[:, np.newaxis] + 0.5) * scale)
        weights = np.maximum(1 - distance / max(scale, 1.0), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        whole = np.moveaxis(np.tensordot(weights, whole, (1, axis)), 0, axis)
    return whole


@pytest.mark.parametrize(
    ("height", "width"), [(1080, 1920), (720, 1280), (480, 640), (1200, 1000), (1080, 1080), (2160, 3840)]
)
def test_a_covering_picture_that_shrinks_is_near_to_pillows(height: int, width: int) -> None:
    colours = np.random.default_rng(7).integers(0, 256, (24, 40, 3), np.uint8)
    shapes = np.asarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    canvas = Canvas((224, 224))
    placement = canvas.draw(shapes, Fit.COVERING)
    wanted = pillows(shapes, placement.scaled)[-placement.top :, -placement.left :][:224, :224]
    area = cv2.resize(shapes, placement.scaled, interpolation=cv2.INTER_AREA)
    middle = area[-placement.top :, -placement.left :][:224, :224]
    error, of_area = (np.abs(found.astype(np.float64) - wanted) for found in (canvas.pixels, middle))
    assert error.mean() < 0.9 * of_area.mean()
    assert error.max() < of_area.max()
