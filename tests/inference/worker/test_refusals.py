"""Every way in which a model can be no good: the one before it keeps serving, and the reason is the contract's word."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from inference.worker.plant import Feeder, PlantProcess, sha256_of

from agent.messages.children import Detections, InferenceFailed
from agent.messages.references import ModelVersion

Make = Callable[..., ModelVersion]
NewPlant = Callable[..., PlantProcess]
Feed = Callable[..., Feeder]


def missing(make: Make) -> ModelVersion:
    version = make("bad")
    Path(version.path).unlink()
    return version


def wrong_hash(make: Make) -> ModelVersion:
    return make("bad", {"sha256": "0" * 64})


def truncated(make: Make) -> ModelVersion:
    path = Path(make("bad").path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return resealed(make, path)


def no_model(make: Make) -> ModelVersion:
    path = Path(make("bad").path)
    path.write_bytes(b"this is no model")
    return resealed(make, path)


def resealed(make: Make, path: Path) -> ModelVersion:
    """Make a catalog entry that tells the truth about a spoilt file."""
    content = path.read_bytes()
    version = make("bad")
    path.write_bytes(content)
    return msgspec.structs.replace(version, sha256=sha256_of(path))


def not_a_number(make: Make) -> ModelVersion:
    return make("bad", nan=True)


def wrong_shape(make: Make) -> ModelVersion:
    return make("bad", shape=(1, 3))


def golden_folder(make: Make, objects: list[dict[str, object]]) -> ModelVersion:
    version = make("bad")
    folder = Path(version.path).parent / "golden"
    folder.mkdir()
    write_picture(folder / "01.png")
    (folder / "01.json").write_text(json.dumps({"objects": objects}))
    return msgspec.structs.replace(version, golden=str(folder))


def write_picture(path: Path) -> None:
    import cv2  # noqa: PLC0415 - here alone

    cv2.imwrite(str(path), np.full((64, 64, 3), 60, np.uint8))


def found(label: str = "bad", score: float = 0.9, box: tuple[float, ...] = (8, 16, 40, 48)) -> dict[str, object]:
    return {"label": label, "class": 0, "score": score, "box": list(box)}


def golden_label(make: Make) -> ModelVersion:
    return golden_folder(make, [found(label="other")])


def golden_place(make: Make) -> ModelVersion:
    return golden_folder(make, [found(box=(8, 16, 20, 28))])


def golden_score(make: Make) -> ModelVersion:
    return golden_folder(make, [found(score=0.5)])


def golden_extra(make: Make) -> ModelVersion:
    return golden_folder(make, [])


Bad = tuple[Callable[[Make], ModelVersion], str, str]
BAD: list[Bad] = [
    (missing, "file_missing", ""),
    (wrong_hash, "hash_mismatch", "sha256"),
    (truncated, "load_failed", ""),
    (no_model, "load_failed", ""),
    (not_a_number, "proof_failed", ""),
    (golden_label, "proof_failed", "no other"),
    (golden_place, "proof_failed", "no bad"),
    (golden_score, "proof_failed", "not 0.5"),
    (golden_extra, "proof_failed", "not expected"),
]


@pytest.mark.parametrize("bad", BAD, ids=[bad[0].__name__ for bad in BAD])
def test_a_bad_model_leaves_the_old_one_serving(new_plant: NewPlant, make_version: Make, feed: Feed, bad: Bad) -> None:
    spoil, reason, detail = bad
    plant = new_plant()
    plant.switch(make_version("good"))
    feeder = feed(plant.writers["cam-1"], 0.005)
    refusal = plant.refusal(spoil(make_version))
    assert (refusal.reason, refusal.active, refusal.model) == (reason, "good:n@1", "bad:n@1")
    assert detail in refusal.detail
    plant.wait_for_ledger({"good:n@1": "active"})
    feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == feeder.offered)
    assert {message.model for message in plant.of(Detections)} == {"good:n@1"}
    assert not plant.of(InferenceFailed)


def test_a_wrong_shape_is_refused(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    plant.switch(make_version("good"))
    refusal = plant.refusal(wrong_shape(make_version))
    assert refusal.reason in {"load_failed", "proof_failed"}
    assert plant.detect().model == "good:n@1"


def test_without_a_model_before_nothing_is_active(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    refusal = plant.refusal(missing(make_version))
    assert (refusal.reason, refusal.active) == ("file_missing", None)
    plant.switch(make_version("good"))
    assert plant.detect().model == "good:n@1"


def test_golden_pictures_that_come_out_as_expected_pass(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    swapped = plant.switch(golden_folder(make_version, [found(score=0.88)]))
    assert swapped.report.warmup_ms > 0


def test_a_model_mended_after_a_refusal_is_taken(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    plant.switch(make_version("good"))
    assert plant.refusal(no_model(make_version)).reason == "load_failed"
    plant.switch(make_version("bad"))
    assert plant.detect().model == "bad:n@1"
