"""The models that the demo's line 1 ships: whole, of the promised size, proved, and right about frames never seen."""

import shutil
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from support.exported import cut

from agent.demo.conveyor import PRODUCTS, Conveyor, Part
from agent.inference.backends import load, load_for
from agent.inference.backends.detector import Detector, Look
from agent.inference.validation import parity
from agent.inference.validation.golden import prove
from agent.inference.yolo.detections import objects_of
from agent.messages.payloads import DetectedObject
from agent.messages.references import ModelVersion
from agent.models.catalog import Catalog

FOLDER = Path(__file__).parents[2] / "config" / "demo"
LIMIT_BYTES = {"n": 6_000_000, "s": 20_000_000}
VERSIONS = Catalog.load(FOLDER / "models.toml").versions
IDS = [version.reference for version in VERSIONS]
UNSEEN_SEED = 980_000


def test_each_product_has_a_nano_and_one_has_more() -> None:
    shipped = {(version.name, version.variant): version.classes for version in VERSIONS}
    for product in PRODUCTS.values():
        assert shipped[product.model, "n"] == product.classes
    assert {variant for _, variant in shipped} == {"n", "s"}


@pytest.mark.parametrize("version", VERSIONS, ids=IDS)
def test_a_file_is_what_the_catalog_says(version: ModelVersion) -> None:
    data = Path(version.path).read_bytes()
    assert sha256(data).hexdigest() == version.sha256
    assert len(data) <= LIMIT_BYTES[version.variant]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("version", VERSIONS, ids=IDS)
def test_a_model_passes_its_proof_and_tells_parts_apart(version: ModelVersion, backend: str, tmp_path: Path) -> None:
    version = msgspec.structs.replace(version, backend=backend)
    model = load(version, "cpu", tmp_path)
    try:
        prove(model, version)
        code = next(product.code for product in PRODUCTS.values() if product.model == version.name)
        for seed in range(UNSEEN_SEED, UNSEEN_SEED + 4):
            picture, parts = Conveyor(code, seed).render(17.0)
            found = objects_of(model.infer(picture), model.names)
            assert [_label_at(part, found) for part in parts if _is_whole(part)] == [
                part.label for part in parts if _is_whole(part)
            ]
    finally:
        model.close()


def _is_whole(part: Part) -> bool:
    return part.box[0] > 1 and part.box[2] < 639


def _label_at(part: Part, found: list[DetectedObject]) -> str | None:
    """Return the label of the surest object over the part's middle."""
    x, y = (part.box[0] + part.box[2]) / 2, (part.box[1] + part.box[3]) / 2
    over = [item for item in found if item.box[0] < x < item.box[2] and item.box[1] < y < item.box[3]]
    return max(over, key=lambda item: item.score).label if over else None


@pytest.mark.parametrize(
    ("name", "branches", "broken"),
    # an angle comes of the mean of many weights: one of three bits each turns it by less than a right bf16 may
    [("fill-check", ("cv4", "proto"), (1, 2, 3)), ("lay-check", ("cv4",), (1, 2))],
    ids=["masks", "angles"],
)
def test_a_precision_that_breaks_only_masks_or_angles_is_not_enough(
    name: str, branches: tuple[str, ...], broken: tuple[int, ...], tmp_path: Path
) -> None:
    entry = next(version for version in VERSIONS if version.name == name)
    seen = parity.pictures(None)[:2]

    def looks(path: Path, precision: str = "f32") -> list[Look]:
        model = load_for(msgspec.structs.replace(entry, path=str(path), backend="openvino"), "cpu", precision)
        assert isinstance(model, Detector)
        try:
            return parity.looks(model, seen)
        finally:
            model.close()

    def is_enough(found: list[Look]) -> bool:
        return parity.compare_looks(want, found, entry.confidence, is_drawn=True).is_enough

    whole = Path(shutil.copy(entry.path, tmp_path))
    want = looks(whole)
    assert is_enough(looks(whole, "bf16")), "f32 where the processor has no bf16"
    assert is_enough(looks(cut(whole, "model", 8))), "the significant bits of bf16"
    for branch in branches:
        for bits in broken:
            assert not is_enough(looks(cut(whole, branch, bits))), f"{bits} bits of {branch}"
