"""The reference manager and the models, with the real ultralytics, small: one size at 64 pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from support.exported import cut

from agent.bench.memory.memory import all_resident
from agent.bench.options import Options
from agent.bench.plant.labels import is_label_of, marker_of
from agent.bench.plant.models import TASKS, Models, ensure
from agent.bench.reference.competitor import competitor
from agent.bench.reference.manager_client import reference
from agent.bench.tasks import tasks
from agent.inference.backends import load, openvino
from agent.inference.backends.detector import Look
from agent.inference.validation import parity
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
        assert f"{name}/{marker_of(name)[0]}" in {item.label for item in found}
        assert all(is_label_of(item.label, name) for item in found)
        assert not any(is_label_of(item.label, "n" if name == "n-b" else "n-b") for item in found)
    model.close()


def looks(version: ModelVersion, precision: str) -> list[Look]:
    model = openvino.load_for(version, "cpu", precision)
    found = parity.looks(model, parity.pictures(None))
    model.close()
    return found


def test_bfloat16_answers_alike_and_weights_of_two_bits_do_not(models: Models, tmp_path: Path) -> None:
    version = models["n"].version
    right = looks(version, "f32")
    alike = parity.compare_looks(right, looks(version, "bf16"), version.confidence, is_drawn=True)
    assert alike.is_enough, str(alike)

    damaged = cut(Path(shutil.copy(models["n"].onnx, tmp_path)), "conv", 2)
    broken = looks(replace(version, path=str(damaged)), "f32")
    compared = parity.compare_looks(right, broken, version.confidence, is_drawn=True)
    assert not compared.is_enough, str(compared)


@pytest.mark.parametrize(("file", "precision"), [("n.pt", "bf16"), ("n_openvino_model", "f32")])
def test_a_contestant_computes_in_the_precision_that_it_was_given(
    models: Models, tmp_path: Path, file: str, precision: str
) -> None:
    assert models.folder is not None
    with competitor(
        "agent.bench.reference.predict", tmp_path / "log", models.folder / file, 64, precision, "detect"
    ) as one:
        assert one.ask(0.1)["precision"] == precision


def test_each_task_is_measured_beside_predict_in_one_precision(tmp_path: Path) -> None:
    names = tuple(f"n-{suffix}" for suffix in TASKS)
    built = ensure(tmp_path / "models", names, 64)
    assert [built[name].task for name in names] == list(TASKS.values())
    figures = tasks.measure(dict.fromkeys(names, built), Options(tmp_path, rounds=1, seconds=0.5))
    for name in names:
        assert figures["vs_ultralytics"][name] > 0
        assert len(set(figures["precision"][name].values())) == 1
        assert set(figures["precision"][name]) == {"agent", "forward", "ultralytics"}


def test_the_reference_manager_swaps_and_says_how_long_it_took(models: Models, tmp_path: Path) -> None:
    with reference(models, tmp_path / "log", most=1) as manager:
        cold_ms, resident_ms = manager.swap_ms("n"), manager.swap_ms("n")
        assert cold_ms > resident_ms > 0
        assert manager.swap_ms("n", "onnx") > 0
        with pytest.raises(TransientError, match=r"reference\.manager_process"):
            manager.swap_ms("q")


def test_what_the_reference_manager_holds_is_measured_from_outside(models: Models, tmp_path: Path) -> None:
    assert all_resident(models, tmp_path, ("n",)) > 100 << 20
