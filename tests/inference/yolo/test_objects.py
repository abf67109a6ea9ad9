"""Objects of a picture that hardware scaled, in pixels of the camera's own."""

import numpy as np

from agent.inference.yolo.objects import Objects


def test_boxes_of_a_scaled_picture_are_told_in_the_cameras_pixels() -> None:
    boxes = np.array([[0, 0, 1144, 640], [10, 20, 110, 220]], np.float32)
    found = Objects(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1], np.int32))
    moved = found.resized((640, 1144), (1080, 1920))
    assert np.allclose(moved.boxes[0], [0, 0, 1920, 1080])
    assert np.allclose(moved.boxes[1], [16.783, 33.75, 184.615, 371.25], atol=1e-3)
    assert moved.boxes.dtype == np.float32
    assert found.resized((640, 1144), (640, 1144)) is found
    empty = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    assert len(empty.resized((4, 4), (8, 8))) == 0
