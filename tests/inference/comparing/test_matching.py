"""Objects of two models in one frame, matched: detection, masks, poses, turned boxes, classes."""

import math

import pytest

from agent.inference.comparing.matching import FrameAnswer, compare
from agent.messages.payloads import DetectedObject, ScoredLabel

BOX = (10.0, 10.0, 50.0, 50.0)
SQUARE = [10.0, 10.0, 50.0, 10.0, 50.0, 50.0, 10.0, 50.0]
STRIP = [10.0, 10.0, 50.0, 10.0, 50.0, 20.0, 10.0, 20.0]


def thing(label: str = "cap", score: float = 0.9, box: tuple[float, ...] = BOX, **more: object) -> DetectedObject:
    return DetectedObject(label=label, class_=0, score=score, box=box, **more)  # type: ignore[arg-type] # of a test


def answer(*objects: DetectedObject, confidence: float = 0.25) -> FrameAnswer:
    return FrameAnswer(list(objects), confidence=confidence)


def moved(by: float) -> tuple[float, float, float, float]:
    return (BOX[0] + by, BOX[1], BOX[2] + by, BOX[3])


def test_the_same_answer_agrees_wholly() -> None:
    found = compare(answer(thing(), thing("other")), answer(thing("other"), thing()))
    assert [(one.label, one.score, one.overlap) for one in found.pairs] == [("cap", 0, 1), ("other", 0, 1)]
    assert not found.missing
    assert not found.extra
    assert found.distance == 0


def test_an_object_needs_half_of_its_place_and_its_label() -> None:
    near = compare(answer(thing()), answer(thing(box=moved(10), score=0.8)))
    assert [one.overlap > 0.5 for one in near.pairs] == [True]
    assert near.pairs[0].score == pytest.approx(-0.1)
    for other in (thing(box=moved(30)), thing("other")):
        found = compare(answer(thing()), answer(other))
        assert (len(found.pairs), len(found.missing), len(found.extra)) == (0, 1, 1)
        assert found.distance == pytest.approx(1.8)


def test_each_object_is_matched_once() -> None:
    found = compare(answer(thing(), thing(box=moved(5))), answer(thing(box=moved(2))))
    assert (len(found.pairs), len(found.missing)) == (1, 1)


def test_what_rounding_moves_over_the_threshold_does_not_count() -> None:
    found = compare(answer(thing(score=0.27)), answer(thing(score=0.52, box=moved(90)), confidence=0.5))
    assert (found.borderline, found.missing, found.extra) == (2, [], [])


def test_masks_decide_where_there_are_some() -> None:
    same = compare(answer(thing(polygons=[SQUARE])), answer(thing(polygons=[SQUARE])))
    other = compare(answer(thing(polygons=[SQUARE])), answer(thing(polygons=[STRIP])))
    assert same.pairs[0].overlap == pytest.approx(1.0)
    assert (len(other.pairs), len(other.missing), len(other.extra)) == (0, 1, 1)


def test_keypoints_decide_where_there_are_some() -> None:
    points = [(20.0, 20.0, 0.9), (40.0, 40.0, 0.9), (0.0, 0.0, 0.1)]
    near = [(21.0, 20.0, 0.9), (40.0, 41.0, 0.9), (99.0, 99.0, 0.1)]
    far = [(40.0, 40.0, 0.9), (20.0, 20.0, 0.9), (0.0, 0.0, 0.1)]
    assert compare(answer(thing(keypoints=points)), answer(thing(keypoints=near))).pairs[0].overlap > 0.9
    assert not compare(answer(thing(keypoints=points)), answer(thing(keypoints=far))).pairs


def test_turned_boxes_are_compared_by_their_corners() -> None:
    def turned(angle: float) -> DetectedObject:
        across, along = (math.cos(angle) * 20, math.sin(angle) * 20), (-math.sin(angle) * 4, math.cos(angle) * 4)
        corners = tuple(
            (30 + a * across[0] + b * along[0], 30 + a * across[1] + b * along[1])
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        )
        return thing(corners=corners, angle=angle)

    assert compare(answer(turned(0.1)), answer(turned(0.12))).pairs
    assert not compare(answer(turned(0.1)), answer(turned(1.6))).pairs, "their upright boxes may well agree"


def test_of_classes_the_best_one_counts() -> None:
    def said(*words: tuple[str, float]) -> FrameAnswer:
        return FrameAnswer([], [ScoredLabel(label=label, class_=0, score=score) for label, score in words])

    same = compare(said(("ok", 0.9), ("bad", 0.1)), said(("ok", 0.7)))
    assert same.pairs[0].score == pytest.approx(-0.2)
    other = compare(said(("ok", 0.9)), said(("bad", 0.6), ("ok", 0.4)))
    assert ([one.label for one in other.missing], [one.label for one in other.extra]) == (["ok"], ["bad"])


def test_sure_objects_that_are_missed_and_unsure_ones_that_are_added_speak_against_it() -> None:
    sure, unsure = thing(score=0.9), thing(score=0.4, box=moved(100))
    assert compare(answer(sure, unsure), answer()).against == 1
    assert compare(answer(), answer(sure, unsure)).against == 1
    better, worse = answer(sure), answer(unsure)
    assert compare(worse, better).against == 0
    assert compare(better, worse).against == 2
