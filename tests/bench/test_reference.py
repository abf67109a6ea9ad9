"""The reference manager and the models, with the real ultralytics, small: one size at 64 pixels."""

from pathlib import Path

import numpy as np
import pytest

from agent.bench.memory.memory import all_resident
from agent.bench.plant.labels import is_label_of, marker_of
from agent.bench.plant.models import Models, ensure
from agent.bench.reference.manager_client import reference
from agent.inference.backends import load
from agent.inference.yolo.detections import objects_of
from agent.messages.errors import TransientError
from agent.messages.references import ModelVersion

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return ensure(tmp_path_factory.mktemp("models"), ("n", "n-b"), 64)


def test_models_are_built_once(models: Models) -> None:
    assert models.folder is not None
    built_ns = models["n"].onnx.stat().st_mtime_ns
    again = ensure(models.folder, ("n", "n-b"), 64)
    assert again["n"].onnx.stat().st_mtime_ns == built_ns
    assert again["n"].sha256 == models["n"].sha256 != models["n-b"].sha256


@pytest.mark.parametrize("name", ["n", "n-b"])
def test_a_model_betrays_itself_whatever_the_picture(models: Models, name: str, tmp_path: Path) -> None:
    one = models[name]
    version = ModelVersion(name=f"part-{name}", variant="n", version="1", path=str(one.onnx), sha256=one.sha256)
    model = load(version, "cpu", tmp_path)
    for seed in range(3):
        picture = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        found = objects_of(model.infer(picture), model.names)
        assert [item.label for item in found] == [f"{name}/{marker_of(name)[0]}"]
        assert is_label_of(found[0].label, name)
        assert not is_label_of(found[0].label, "n" if name == "n-b" else "n-b")
    model.close()


def test_the_reference_manager_swaps_and_says_how_long_it_took(models: Models, tmp_path: Path) -> None:
    with reference(models, tmp_path / "log", most=1) as manager:
        cold_ms, resident_ms = manager.swap_ms("n"), manager.swap_ms("n")
        assert cold_ms > resident_ms > 0
        assert manager.swap_ms("n", "onnx") > 0
        with pytest.raises(TransientError, match=r"reference\.manager_process"):
            manager.swap_ms("q")


def test_what_the_reference_manager_holds_is_measured_from_outside(models: Models, tmp_path: Path) -> None:
    assert all_resident(models, tmp_path, ("n",)) > 100 << 20
