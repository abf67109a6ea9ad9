"""Equality of answers in another precision, and the choice of a precision."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.files import file_sha256
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import Objects, openvino
from agent.inference.backends.detector import Detector
from agent.inference.preparing import precision
from agent.inference.preparing.autotune import is_worth, measure
from agent.inference.preparing.build_process import prepare
from agent.inference.validation import parity
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
    times_ms = iter([2.0] * 5 + [1.0] * 5)
    monkeypatch.setattr(precision, "_time_ms", lambda *_: next(times_ms))
    if is_wrong:
        lost = iter([parity.Parity(10, 10, 0.0), parity.Parity(10, 9, 0.0)])
        monkeypatch.setattr(parity, "compare", lambda *_: next(lost))
    steps: list[str] = []
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache")), steps.append)
    assert outcome.result == "prepared"
    assert outcome.profile is not None
    assert outcome.profile["precision"] == chosen
    assert any(step.startswith("bf16: ") for step in steps)
    (folder,) = (tmp_path / "cache" / "prepared").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["artifact.json", "model.blob"]


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
