"""The demo's conveyor: repeatable pictures, truth that matches them, and a camera that cv2 can watch."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.waiting import DEADLINE_S

from agent.demo.conveyor import PRODUCTS, Conveyor
from agent.demo.conveyor.camera import ConveyorCamera
from agent.demo.conveyor.dataset import describe, write

CAMERA_SEED = 9
PRODUCT_CODES = sorted(PRODUCTS)
MOMENTS = [0.0, 0.4, 7.31, 12.0, 61.7]

Picture = NDArray[np.uint8]


@pytest.mark.parametrize("product", [*PRODUCT_CODES, None])
def test_a_frame_depends_on_product_seed_and_time_alone(product: str | None) -> None:
    one, other = Conveyor(product, 5), Conveyor(product, 5)
    first = {moment: one.render(moment) for moment in MOMENTS}
    for moment in reversed(MOMENTS):
        picture, parts = other.render(moment)
        assert picture.shape == (480, 640, 3)
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, first[moment][0])
        assert parts == first[moment][1]


@pytest.mark.parametrize("product", PRODUCT_CODES)
def test_seeds_and_moments_differ(product: str) -> None:
    conveyor = Conveyor(product, 1)
    assert _apart(conveyor.render(1.0)[0], conveyor.render(1.4)[0]) > 2
    assert _apart(conveyor.render(1.0)[0], Conveyor(product, 2).render(1.0)[0]) > 5


@pytest.mark.parametrize("product", PRODUCT_CODES)
def test_good_and_defective_parts_both_come_by(product: str) -> None:
    conveyor = Conveyor(product, 3)
    labels = [part.label for moment in range(40) for part in conveyor.render(moment * 2.0)[1]]
    good, defective = PRODUCTS[product].classes
    assert set(labels) == {good, defective}
    assert 0.1 < labels.count(defective) / len(labels) < 0.6


def test_a_label_tells_which_model_gave_it() -> None:
    names = [name for product in PRODUCTS.values() for name in product.classes]
    assert len(set(names)) == len(names) == 10
    assert len({product.model for product in PRODUCTS.values()}) == 5


def test_an_empty_belt_moves_and_carries_nothing() -> None:
    conveyor = Conveyor(None, 4)
    assert conveyor.render(3.0)[1] == []
    assert _apart(conveyor.render(3.0)[0], conveyor.render(3.5)[0]) > 1


@pytest.mark.parametrize("product", PRODUCT_CODES)
def test_outlines_lie_on_what_was_drawn(product: str) -> None:
    """A picture with parts differs from the same belt without them, in each outline, and nowhere without parts."""
    for seed in range(3):
        belt, _ = Conveyor(None, seed).render(9.0)
        picture, parts = Conveyor(product, seed).render(9.0)
        changed = np.abs(picture.astype(int) - belt.astype(int)).max(axis=2) > 12
        for part in parts:
            inside = cv2.fillPoly(np.zeros(changed.shape, np.uint8), [np.array(part.outline).round().astype(int)], (1,))
            assert changed[inside > 0].mean() > 0.5, (seed, part)
        if not parts:
            assert changed.mean() < 0.25


@pytest.mark.parametrize("product", PRODUCT_CODES)
def test_boxes_stay_inside_and_show_half_of_the_part_at_least(product: str) -> None:
    whole: dict[str, float] = {}
    conveyor = Conveyor(product, 8)
    for moment in range(60):
        for part in conveyor.render(moment * 0.37)[1]:
            x1, y1, x2, y2 = part.box
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 480
            whole[part.label] = max(whole.get(part.label, 0), x2 - x1)
            assert x2 - x1 >= 0.45 * whole[part.label] or product == "tube-75"  # whose boxes are as wide as it lies


def test_a_filling_is_outlined_and_higher_in_a_full_jar() -> None:
    high: dict[str, list[float]] = {"full": [], "short": []}
    for seed in range(4):
        for part in Conveyor("jar-250", seed).render(9.0)[1]:
            outline = np.array(part.outline, np.float32)
            assert len(outline) <= 64
            assert np.allclose((*outline.min(axis=0), *outline.max(axis=0)), part.box)
            assert cv2.isContourConvex(outline)
            high[part.label].append(part.box[3] - part.box[1])
    assert min(high["full"]) > max(high["short"]) > 0


def test_a_tube_is_a_rectangle_whose_angle_tells_how_it_lies() -> None:
    angles: dict[str, list[float]] = {"straight": [], "askew": []}
    for seed in range(4):
        for part in Conveyor("tube-75", seed).render(9.0)[1]:
            if part.box[0] > 1 and part.box[2] < 639:
                along, across = (np.subtract(part.outline[at + 1], part.outline[at]) for at in (0, 1))
                assert abs(along @ across) < 1e-2 * np.hypot(*along) * np.hypot(*across)
                angles[part.label].append(abs(np.rad2deg(np.arctan2(along[1], along[0])) + 90) % 180 - 90)
    assert max(abs(angle) for angle in angles["straight"]) < 8
    assert min(abs(angle) for angle in angles["askew"]) > 12


def test_a_part_at_the_edge_is_cut_there() -> None:
    cut = [part for t in range(20) for part in Conveyor("jar-250", 3).render(t * 0.7)[1] if part.box[0] == 0]
    assert cut
    assert all(min(x for x, _ in part.outline) == 0 for part in cut)


def test_a_part_moves_steadily_to_the_right_and_leaves() -> None:
    conveyor = Conveyor("tray-12", 2)
    frames = [conveyor.render(number / 15)[1] for number in range(150)]
    middles = [sorted((part.box[0] + part.box[2]) / 2 for part in parts) for parts in frames]
    assert {len(parts) for parts in frames} >= {1, 2}
    steps = [
        min(after - before for after in later for before in now if after >= before)
        for now, later in pairwise(middles)
        if now and later and later[-1] > now[0]
    ]
    assert 2 < float(np.median(steps)) < 16


def test_other_sizes_show_the_same_scene() -> None:
    large, parts = Conveyor("can-330", 6).render(4.0)
    small, small_parts = Conveyor("can-330", 6, 320, 240).render(4.0)
    assert small.shape == (240, 320, 3)
    assert [part.label for part in small_parts] == [part.label for part in parts]
    for part, small_part in zip(parts, small_parts, strict=True):
        assert np.allclose(np.array(part.box) / 2, small_part.box, atol=3)
    assert large.shape == (480, 640, 3)


def test_an_unknown_product_is_refused() -> None:
    with pytest.raises(KeyError):
        Conveyor("bottle-501", 1)
    with pytest.raises(KeyError, match="bottle-500"):
        ConveyorCamera().set_product("bottle-501")


def test_a_data_set_holds_the_truth(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("frames")
    write(folder, "train", "can-330", 9, 70)
    write(folder, "val", "can-330", 2, 900)
    pictures = sorted((folder / "images" / "train").iterdir())
    lines = [line.split() for file in (folder / "labels" / "train").iterdir() for line in file.read_text().splitlines()]
    assert len(pictures) == 9
    assert {int(line[0]) for line in lines} == {0, 1}
    assert all(0 <= float(word) <= 1 for line in lines for word in line[1:])
    data = describe(folder / "data.yaml", [folder], ("ring", "no-ring")).read_text()
    assert '"names": {"0": "ring", "1": "no-ring"}' in data


@pytest.mark.parametrize(("product", "most"), [("jar-250", 64), ("tube-75", 6)])
def test_a_data_set_holds_outlines_where_they_are_inspected(
    product: str, most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    write(folder, "train", product, 2, 70)
    lines = [line.split() for file in (folder / "labels" / "train").iterdir() for line in file.read_text().splitlines()]
    assert lines
    for _, *numbers in lines:
        assert len(numbers) % 2 == 0
        assert 4 <= len(numbers) // 2 <= most
        assert all(0 <= float(number) <= 1 for number in numbers)


@pytest.fixture
def camera() -> Iterator[ConveyorCamera]:
    with ConveyorCamera("bottle-500", seed=CAMERA_SEED, fps=15, width=320, height=240) as camera:
        yield camera


def test_cv2_watches_the_camera_and_sees_the_product_change(camera: ConveyorCamera) -> None:
    watched = cv2.VideoCapture(camera.url, cv2.CAP_FFMPEG)
    try:
        for product in ("bottle-500", "tray-12", None, "can-330"):
            camera.set_product(product)
            assert camera.product == product
            assert _sees(watched, partial(_shows, product)), product
    finally:
        watched.release()


def test_two_viewers_get_moving_pictures(camera: ConveyorCamera) -> None:
    viewers = [cv2.VideoCapture(camera.url, cv2.CAP_FFMPEG) for _ in range(2)]
    try:
        for viewer in viewers:
            first = np.asarray(viewer.read()[1], np.uint8)
            assert _sees(viewer, partial(_moved_from, first))
    finally:
        for viewer in viewers:
            viewer.release()


def test_the_camera_stops_under_its_viewers_and_starts_again() -> None:
    before = threading.active_count()
    camera = ConveyorCamera("can-330", fps=15, width=320, height=240)
    for _ in range(2):
        camera.start()
        watched = cv2.VideoCapture(camera.url, cv2.CAP_FFMPEG)
        assert watched.read()[0]
        camera.stop()
        camera.stop()
        watched.release()
        assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="start"):
        _ = camera.url


def _sees(watched: cv2.VideoCapture, condition: Callable[[Picture], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        good, picture = watched.read()
        assert good
        if condition(np.asarray(picture, np.uint8)):
            return True
    return False


def _shows(product: str | None, picture: Picture) -> bool:
    """Tell whether that product's typical picture is nearest: parts stand at other heights for each."""
    profile = _profile(picture)
    return product == min(_typical(), key=lambda code: float(np.abs(_typical()[code] - profile).mean()))


@cache
def _typical() -> dict[str | None, NDArray[np.float64]]:
    moments = [number * 1.1 for number in range(12)]
    conveyors = {code: Conveyor(code, CAMERA_SEED, 320, 240) for code in (*PRODUCT_CODES, None)}
    return {
        code: np.mean([_profile(conveyor.render(moment)[0]) for moment in moments], axis=0)
        for code, conveyor in conveyors.items()
    }


def _moved_from(before: Picture, picture: Picture) -> bool:
    return _apart(before, picture) > 2


def _profile(picture: Picture) -> NDArray[np.float64]:
    """Return how saturated and how uneven each band of rows is: what parts do to a grey belt."""
    bands = np.array_split(picture[72:220].astype(float), 12)
    saturation = [(band.max(axis=2) - band.min(axis=2)).mean() for band in bands]
    return np.array([*saturation, *[band.std() for band in bands]])


def _apart(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())
