"""Equality of answers in another precision, and the choice of a precision."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.files import file_sha256
from agent.inference.artifacts.artifact_store import Made
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import Objects, openvino
from agent.inference.backends.detector import Detector, Look
from agent.inference.preparing import precision
from agent.inference.preparing.autotune import is_worth, measure, verdict
from agent.inference.preparing.build_process import prepare
from agent.inference.validation import parity
from agent.inference.yolo.metadata import FileFacts
from agent.inference.yolo.objects import further_of
from agent.messages.errors import MistakeError
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

WriteTiny = Callable[..., Path]
VersionOf = Callable[..., ModelVersion]


def objects(*rows: tuple[float, float, int]) -> Objects:
    """Build objects of (left, score, class), 10 pixels wide."""
    boxes = np.array([[left, 0, left + 10, 10] for left, _, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in rows], np.float32)
    return Objects(boxes, scores, np.array([index for _, _, index in rows], np.int32))


def compared(want: Objects, got: Objects) -> tuple[int, int]:
    found = parity.compare([want], [got], 0.25)
    return found.boxes, found.matched


def test_boxes_are_paired_by_class_place_and_score() -> None:
    want = objects((0, 0.9, 0), (50, 0.8, 1))
    assert compared(want, objects((50.5, 0.78, 1), (0.5, 0.93, 0))) == (2, 2)
    assert compared(want, objects((0, 0.9, 1), (50, 0.8, 1))) == (3, 1)  # another class: one missing, one too many
    assert compared(want, objects((0, 0.9, 0), (55, 0.8, 1))) == (3, 1)
    assert compared(want, objects((0, 0.9, 0), (50, 0.7, 1))) == (3, 1)
    assert compared(objects(), objects()) == (0, 0)


def test_boxes_at_the_threshold_may_come_and_go() -> None:
    assert compared(objects((0, 0.9, 0), (50, 0.28, 1)), objects((0, 0.9, 0))) == (1, 1)
    assert compared(objects((0, 0.9, 0)), objects((0, 0.9, 0), (50, 0.28, 1))) == (1, 1)


def test_one_of_a_hundred_may_be_lost_and_no_more() -> None:
    assert parity.Parity(100, 99, 0.01).is_enough
    assert not parity.Parity(100, 98, 0.01).is_enough
    assert parity.Parity(0, 0, 0.0).is_enough


def test_a_box_that_the_pictures_edge_cuts_to_a_line_matches_itself() -> None:
    line = Objects(np.array([[16, 0, 48, 0]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32))
    assert compared(line, line) == (1, 1)


def candidates(change: Callable[[Objects], Objects] = lambda found: found) -> parity.Parity:
    """Compare what an untrained network answers, scores far below any threshold, with the same after a `change`."""
    chance = np.random.default_rng(1)
    corners = chance.uniform(0, 400, (300, 2))
    boxes = np.concatenate((corners, corners + chance.uniform(20, 200, (300, 2))), axis=1).astype(np.float32)
    scores = -np.sort(-chance.uniform(1e-4, 1e-2, 300)).astype(np.float32)
    found = Objects(boxes, scores, chance.integers(0, 80, 300).astype(np.int32))
    nothing = objects()
    return parity.compare_looks([Look(nothing, found)], [Look(nothing, change(found))], 0.25, is_drawn=True)


def shaken(boxes: float = 0.0, scores: float = 0.0) -> Callable[[Objects], Objects]:
    """Return a change by noise: pixels on each edge, and a share of each score."""

    def change(found: Objects) -> Objects:
        chance = np.random.default_rng(2)
        moved = found.boxes + chance.normal(0, 1, found.boxes.shape) * boxes
        scored = found.scores * np.exp(chance.normal(0, 1, len(found)) * scores)
        return Objects(moved.astype(np.float32), scored.astype(np.float32), found.classes)

    return change


def test_candidates_that_rounding_moved_are_alike() -> None:
    assert candidates().alike == candidates().candidates == 200
    assert candidates(shaken(boxes=0.5, scores=0.05)).is_enough


@pytest.mark.parametrize(
    "change",
    [
        lambda found: Objects(found.boxes, np.zeros_like(found.scores), found.classes),
        lambda found: Objects(found.boxes, found.scores, found.classes + 1),
        lambda found: Objects(found.boxes[:0], found.scores[:0], found.classes[:0]),
        lambda found: Objects(found.boxes, found.scores * 3, found.classes),
        shaken(boxes=15.0),
        shaken(scores=1.0),
    ],
    ids=["no score", "another class", "nothing", "louder", "other boxes", "other scores"],
)
def test_candidates_of_a_broken_precision_are_not(change: Callable[[Objects], Objects]) -> None:
    assert not candidates(change).is_enough


def with_further(further: NDArray[np.float32], others: NDArray[np.float32]) -> Look:
    """Build what was seen of a network whose candidates have further numbers, and prototypes beside them."""
    found = objects(*((40.0 * number, 0.5, 0) for number in range(len(further))))
    return Look(objects(), replace(found, further=(further,)), (others,))


@pytest.mark.parametrize(("noise", "is_enough"), [(0.03, True), (0.3, False)])
def test_an_angle_may_scatter_more_than_the_mean_of_many_numbers(noise: float, *, is_enough: bool) -> None:
    chance = np.random.default_rng(3)
    angles = chance.uniform(0, np.pi, 100)

    def seen(turned: NDArray[np.floating]) -> Look:
        directions = np.column_stack((np.cos(2 * turned), np.sin(2 * turned))).astype(np.float32)
        return with_further(directions, np.ones(10, np.float32))

    want, got = seen(angles), seen(angles + chance.normal(0, noise, 100))
    assert parity.compare_looks([want], [got], 0.25, is_drawn=True).is_enough is is_enough


@pytest.mark.parametrize(("noise", "is_enough"), [(0.02, True), (0.2, False)])
@pytest.mark.parametrize("part", ["candidates", "prototypes"])
def test_what_a_task_adds_to_candidates_decides_too(part: str, noise: float, *, is_enough: bool) -> None:
    chance = np.random.default_rng(3)
    numbers = [chance.normal(0, 5, size).astype(np.float32) for size in ((100, 32), (1000,))]
    changed = [one + chance.normal(0, 5 * noise, one.shape).astype(np.float32) for one in numbers]
    numbers_after = (changed[0], numbers[1]) if part == "candidates" else (numbers[0], changed[1])
    want, got = with_further(*numbers), with_further(*numbers_after)
    assert parity.compare_looks([want], [got], 0.25, is_drawn=True).is_enough is is_enough


def test_keypoints_count_from_the_boxs_centre_and_angles_up_to_half_a_turn() -> None:
    boxes = np.array([[100, 100, 140, 120], [300, 0, 340, 40]], np.float32)
    points = np.array([[110, 105, 0.9], [320, 30, 0.2]], np.float32)
    places, scores = further_of(points, boxes, (1, 3))
    np.testing.assert_allclose(places, [[-10, -5], [0, 10]])
    np.testing.assert_allclose(scores, [[0.9], [0.2]], atol=1e-6)
    angles = np.array([[-np.pi / 4], [3 * np.pi / 4]], np.float32)
    (directions,) = further_of(angles, boxes, (0, 0))
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-5)
    assert further_of(angles[:, :0], boxes, (0, 0)) == ()


def test_boxes_decide_on_given_pictures_and_not_on_drawn_ones() -> None:
    one, none = Look(objects((0, 0.9, 0)), objects()), Look(objects(), objects())
    assert parity.compare_looks([one], [none], 0.25, is_drawn=True).is_enough
    assert not parity.compare_looks([one], [none], 0.25, is_drawn=False).is_enough


def test_a_precision_of_fewer_bits_must_be_clearly_faster() -> None:
    made = Made("a", FileFacts(), (32, 32), ((1, 5, 21),), Profile())
    for times_ms, chosen in (((30.0, 28.0), "f32"), ((30.0, 20.0), "bf16"), ((30.0, 20.0, 19.0), "bf16")):
        tried = [(ms, name, made) for ms, name in zip(times_ms, ("f32", "bf16", "f16"), strict=False)]
        assert precision.fastest(tried)[0] == chosen


def test_a_folder_without_a_picture_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(MistakeError, match="holds no picture"):
        parity.pictures(tmp_path)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((8, 8, 3), np.uint8))
    assert [picture.shape for picture in parity.pictures(tmp_path)] == [(8, 8, 3)]
    assert len(parity.pictures(None)) > 1


@pytest.fixture
def entry(tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> ModelVersion:
    path = tiny_model(tmp_path / "tiny.onnx")
    return version(path, sha256=file_sha256(path), backend="openvino")


@pytest.mark.parametrize(("is_wrong", "chosen"), [(False, "bf16"), (True, "f32")])
def test_the_fastest_that_answers_alike_is_chosen(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_wrong: bool, chosen: str
) -> None:
    """On a device that has bf16, as this one may not: there the runtime computes in f32 under that name."""
    monkeypatch.setattr(openvino, "precisions", lambda _: ("f32", "bf16"))
    times_ms = iter([9.0, 2.0, *[9.0] * 18, 9.0, 1.0, *[9.0] * 18])  # all but one of each are disturbed
    monkeypatch.setattr(precision, "_time_ms", lambda *_: next(times_ms))
    if is_wrong:
        lost = iter([parity.Parity(0, 0, 0.0, 10, 10), parity.Parity(0, 0, 0.0, 10, 9)])
        monkeypatch.setattr(parity, "compare_looks", lambda *_, **__: next(lost))
    steps: list[str] = []
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache")), steps.append)
    assert outcome.result == "prepared"
    assert outcome.profile is not None
    assert outcome.profile["precision"] == chosen
    assert any(step.startswith("bf16: ") for step in steps)
    (folder,) = (tmp_path / "cache" / "prepared").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["artifact.json", "model.blob"]


def test_a_burst_of_other_work_does_not_choose_the_precision(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "precisions", lambda _: ("f32", "bf16"))
    times_ms = iter([2.0] * 20 + [9.0] * 20 + [9.0] * 20 + [1.0] * 20)
    monkeypatch.setattr(precision, "_time_ms", lambda *_: next(times_ms))
    steps: list[str] = []
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache")), steps.append)
    assert outcome.profile is not None
    assert outcome.profile["precision"] == "bf16"
    assert steps.count("timing once more") == 1


def test_a_precision_that_is_asked_for_is_not_compared(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "precisions", lambda _: ("f32", "bf16"))
    steps: list[str] = []
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache"), precision="f32"), steps.append)
    assert outcome.profile is not None
    assert outcome.profile["precision"] == "f32"
    assert not any(step.startswith("bf16: ") for step in steps)


def test_pictures_that_are_given_decide(entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "precisions", lambda _: ("f32", "bf16"))
    (tmp_path / "images").mkdir()
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache"), images=str(tmp_path / "images")), print)
    assert (outcome.result, outcome.reason) == ("failed", "load_failed")
    assert "holds no picture" in outcome.detail


def test_nothing_is_measured_where_others_have_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.inference.preparing.autotune._Others.share", lambda _: 0.5)

    def load(profile: Profile) -> Detector:
        raise AssertionError(profile)

    base = Profile("f32")
    assert measure(load, base) == base
    assert not base.is_measured


def test_an_artifact_that_was_not_measured_is_measured_later(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(entry, "cpu", str(tmp_path / "cache"))
    with monkeypatch.context() as busy:
        busy.setattr("agent.inference.preparing.autotune._Others.share", lambda _: 0.5)
        first = prepare(request, print)
    assert first.profile is not None
    assert first.profile["inference_ms"] == 0
    monkeypatch.setattr("agent.inference.preparing.autotune._Others.share", lambda _: 0.0)
    second = prepare(request, print)
    assert second.result == "present"
    assert second.profile is not None
    assert float(second.profile["inference_ms"]) > 0
    steps: list[str] = []
    assert prepare(request, steps.append).profile == second.profile
    assert "measuring" not in steps


def test_what_was_measured_in_another_power_mode_is_measured_anew(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(entry, "cpu", str(tmp_path / "cache"))
    monkeypatch.setattr("agent.inference.preparing.autotune._Others.share", lambda _: 0.0)
    steps: list[str] = []
    for mode, measured in (("15W", True), ("15W", False), ("MAXN", True), ("MAXN", False)):
        for module in ("autotune", "build_process"):
            monkeypatch.setattr(f"agent.inference.preparing.{module}.power_mode", lambda mode=mode: mode)
        steps.clear()
        outcome = prepare(request, steps.append)
        assert ("measuring" in steps) is measured
        assert outcome.profile is not None
        assert outcome.profile["power_mode"] == mode
        assert f"in power mode {mode}" in outcome.detail


def test_two_at_once_must_bring_more_and_cost_little_time() -> None:
    assert is_worth(22.0, 16.0, 2), "ten ms longer for each, and a third more of them"
    assert not is_worth(70.0, 61.0, 2), "a picture would wait for 52 ms more"
    assert not is_worth(20.0, 19.0, 2), "hardly more pictures"
    assert not is_worth(20.0, 25.0, 2), "fewer"


def test_the_number_of_requests_is_chosen_when_it_is_certain() -> None:
    for answer in (True, False):
        assert verdict([answer] * 6, is_over=False) is None
        assert verdict([answer] * 7, is_over=False) is answer
        assert verdict([not answer] + [answer] * 7, is_over=False) is None
        assert verdict([not answer] + [answer] * 8, is_over=False) is answer


def test_one_request_is_chosen_where_time_is_over_and_rounds_disagree() -> None:
    assert verdict([], is_over=True) is None, "at least one round"
    assert verdict([True, True, False, True], is_over=True) is False
    assert verdict([True, True], is_over=True) is True, "a slow model has few rounds"
    assert verdict([False], is_over=True) is False


def test_a_choice_repeats_itself_in_spite_of_noise() -> None:
    """A gain of 1.15 is measured with a spread of 0.05, twice what a quiet machine has."""
    chance = np.random.default_rng(4)

    def choose() -> bool:
        votes: list[bool] = []
        while (found := verdict(votes, is_over=len(votes) > 40)) is None:
            votes.append(is_worth(23.0 * chance.normal(1, 0.05), 20.0, 2))
        return found

    assert sum(choose() for _ in range(200)) >= 198
