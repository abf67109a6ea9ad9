"""Prepared artifacts through the runtimes: served instead of the file, answering as it does, never trusted blindly."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import psutil
import pytest
from msgspec.structs import replace
from support.tiny_models import write_endless_model

from agent.inference import backends
from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import Model, ModelError
from agent.inference.backends.detector import Detector
from agent.inference.preparing.build_process import prepare
from agent.messages.references import ModelVersion
from agent.models.preparation import Outcome, Preparation, Request

WriteTiny = Callable[..., Path]
VersionOf = Callable[..., ModelVersion]
Make = Callable[..., ModelVersion]

ROOT = Path(backends.__file__).parents[3]
PICTURE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture(params=["openvino", "onnxruntime"])
def make(request: pytest.FixtureRequest, tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> Make:
    """Write a tiny model with `options`; `entry` holds fields of its catalog entry, which names its sha256."""
    pytest.importorskip(f"agent.inference.backends.{request.param}")

    def write(entry: dict[str, object] | None = None, **options: object) -> ModelVersion:
        path = tiny_model(tmp_path / "tiny.onnx", **options)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return version(path, backend=request.param, sha256=sha256, **(entry or {}))

    return write


def prepared(entry: ModelVersion, cache_dir: Path, max_bytes: int = 1 << 30) -> Outcome:
    return prepare(Request(entry, "cpu", str(cache_dir), max_bytes), lambda _: None)


def load(entry: ModelVersion, cache_dir: Path) -> Model:
    return backends.load(entry, "cpu", cache_dir)


def artifact_file(entry: ModelVersion, cache_dir: Path) -> Path:
    key = backends.artifact_key(entry, "cpu")
    found = ArtifactStore(cache_dir).find(key)
    assert key is not None
    assert found is not None
    return cache_dir / "prepared" / key / found.file


@pytest.mark.parametrize("options", [{}, {"end2end": True}, {"half": True}, {"dynamic": True}], ids=str)
def test_the_artifact_answers_as_the_file_does(make: Make, tmp_path: Path, options: dict[str, object]) -> None:
    entry = make(boxes=[(8, 16, 40, 48, 0.75, 1), (8, 16, 40, 48, 0.5, 0)], **options)
    assert prepared(entry, tmp_path).result == "prepared"
    Path(entry.path).write_bytes(b"whoever reads this fails")
    model = load(entry, tmp_path)
    objects = model.infer(PICTURE)
    np.testing.assert_allclose(objects.boxes, [[8, 16, 40, 48]] * 2, atol=0.1)
    np.testing.assert_allclose(objects.scores, [0.75, 0.5], atol=1e-3)
    assert objects.classes.tolist() == [1, 0]
    assert (model.names, model.imgsz, model.backend) == (("cap", "no-cap"), (64, 64), entry.backend)
    model.close()


def test_a_model_outlives_its_artifacts_file(make: Make, tmp_path: Path) -> None:
    entry = make()
    assert prepared(entry, tmp_path).result == "prepared"
    model = load(entry, tmp_path)
    artifact_file(entry, tmp_path).unlink()
    assert len(model.check_outputs(PICTURE)) == 1
    under_way = model.prepare(PICTURE)
    model.close()
    assert len(model.answer(under_way)) == 1


@pytest.mark.parametrize("damage", [b"", b"\0" * 64, b"more"], ids=["truncated", "overwritten", "appended"])
def test_a_damaged_artifact_is_served_from_its_file_and_made_again(make: Make, tmp_path: Path, damage: bytes) -> None:
    entry = make()
    assert prepared(entry, tmp_path).result == "prepared"
    file = artifact_file(entry, tmp_path)
    file.write_bytes(damage + file.read_bytes()[64:] if damage else b"")
    model = load(entry, tmp_path)
    assert len(model.check_outputs(PICTURE)) == 1
    model.close()
    assert prepared(entry, tmp_path).result == "prepared"
    assert prepared(entry, tmp_path).result == "present"


def test_an_artifact_that_the_runtime_refuses_is_removed(make: Make, tmp_path: Path) -> None:
    """As one of another release would be, if its key did not tell."""
    entry = make()
    key = backends.artifact_key(entry, "cpu")
    assert key is not None
    artifacts = ArtifactStore(tmp_path)

    def garbage(folder: Path) -> backends.Made:
        made = backends.make(entry, "cpu", folder)
        (folder / made.file).write_bytes(b"not what this runtime wrote")
        return made

    artifacts.add(key, entry.reference, 1 << 30, garbage)
    model = load(entry, tmp_path)
    assert len(model.check_outputs(PICTURE)) == 1
    model.close()
    assert artifacts.find(key) is None


def test_classes_and_thresholds_of_the_catalog_hold_for_an_artifact(make: Make, tmp_path: Path) -> None:
    entry = make()
    assert prepared(entry, tmp_path).result == "prepared"
    named = make({"classes": ("good", "bad"), "confidence": 0.95})
    assert prepared(named, tmp_path).result == "present"
    model = load(named, tmp_path)
    assert model.names == ("good", "bad")
    assert len(model.infer(PICTURE)) == 0
    model.close()
    with pytest.raises(ModelError, match="names 3 classes"):
        load(make({"classes": ("a", "b", "c")}), tmp_path)


def test_a_file_of_another_sha256_is_not_prepared(make: Make, tmp_path: Path) -> None:
    entry = make()
    Path(entry.path).write_bytes(Path(entry.path).read_bytes() + b"x")
    outcome = prepared(entry, tmp_path)
    assert (outcome.result, outcome.reason) == ("failed", "hash_mismatch")


def test_what_is_no_model_is_not_prepared(version: VersionOf, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model at all")
    outcome = prepared(version(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()), tmp_path)
    assert (outcome.result, outcome.reason) == ("failed", "load_failed")
    assert list((tmp_path / "prepared").iterdir()) == []


def test_one_that_answers_something_else_is_not_kept(make: Make, tmp_path: Path) -> None:
    entry = make(boxes=[(8, 16, 40, 48, 90000.0, 0)])  # beyond float16, which artifacts keep weights in
    if entry.backend == "openvino":
        outcome = prepared(entry, tmp_path)
        # a processor with two precisions compares pictures first, and finds such a score impossible
        assert (outcome.result, outcome.reason) in {("failed", "proof_failed"), ("failed", "implausible")}
    model = load(entry, tmp_path)
    assert model.infer(PICTURE).scores.tolist() == [90000.0]
    model.close()


def test_a_full_quota_is_no_mistake_of_the_model(make: Make, tmp_path: Path) -> None:
    outcome = prepared(make(), tmp_path, max_bytes=10)
    assert (outcome.result, outcome.reason, outcome.exit_code) == ("failed", None, 1)


def test_a_disk_that_cannot_be_written_is_no_mistake_of_the_model(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = prepared(make(), tmp_path / "file")
    assert (outcome.result, outcome.reason) == ("failed", None)


def test_a_disk_that_fills_up_is_no_mistake_of_the_model(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(version: ModelVersion, compute: str, folder: Path, precision: str, **_: object) -> backends.Made:
        raise ModelError("load_failed", f"{version.reference} on {compute}: {folder}/{precision}.xml cannot be read")

    monkeypatch.setattr(backends, "make", cut)
    assert prepared(make(), tmp_path).reason == "load_failed"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    outcome = prepared(make(), tmp_path)
    assert (outcome.result, outcome.reason, outcome.exit_code) == ("failed", None, 1)
    assert "No space left" in outcome.detail


def test_a_process_prepares_and_says_what_it_does(make: Make, tmp_path: Path) -> None:
    entry = make()
    steps: list[str] = []
    outcome = Preparation(Request(entry, "cpu", str(tmp_path)), steps.append).run()
    assert outcome.result == "prepared"
    assert any("compiling" in step for step in steps)
    assert artifact_file(entry, tmp_path).exists()


def test_a_killed_process_leaves_nothing_to_be_found(make: Make, tmp_path: Path) -> None:
    entry = make()
    preparation: list[Preparation] = []
    preparation.append(Preparation(Request(entry, "cpu", str(tmp_path)), lambda _: preparation[0].kill()))
    outcome = preparation[0].run()
    assert outcome.result == "failed"
    assert ArtifactStore(tmp_path).find(backends.artifact_key(entry, "cpu")) is None


def test_a_step_without_an_end_ends_the_process(make: Make, tmp_path: Path) -> None:
    path = write_endless_model(tmp_path / "endless.onnx")
    entry = replace(make(), path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    outcome = Preparation(Request(entry, "cpu", str(tmp_path), step_s=5.0), lambda _: None).run()
    assert (outcome.result, outcome.reason, outcome.exit_code) == ("failed", "load_timeout", 1)
    assert "ended after 5 s of one step" in outcome.detail
    assert ArtifactStore(tmp_path).find(backends.artifact_key(entry, "cpu")) is None


STARTER = """
import sys, msgspec
from agent.models.preparation import Preparation, Request
told = lambda step: print(running._process.pid, step, flush=True)
running = Preparation(msgspec.json.decode(sys.stdin.readline(), type=Request), told)
running.run()
"""


def test_a_process_ends_with_its_starter_whatever_it_does(make: Make, tmp_path: Path) -> None:
    path = write_endless_model(tmp_path / "endless.onnx")
    entry = replace(make(), path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    request = msgspec.json.encode(Request(entry, "cpu", str(tmp_path)))
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.write(request + b"\n")
        starter.stdin.flush()
        child = psutil.Process(int(starter.stdout.readline().split()[0]))
        child.suspend()  # as one that keeps the GIL for ever: none of its threads sees the end of its input
        starter.kill()
    child.wait(60)


def test_closed_models_unmap_their_artifacts(make: Make, tmp_path: Path) -> None:
    entry = make()
    assert prepared(entry, tmp_path).result == "prepared"
    model = load(entry, tmp_path)
    assert len(model.check_outputs(PICTURE)) == 1
    model.close()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert "/prepared/" not in maps


def test_a_use_is_noted(make: Make, tmp_path: Path) -> None:
    entry = make()
    assert prepared(entry, tmp_path).result == "prepared"
    folder = artifact_file(entry, tmp_path).parent
    os.utime(folder, (1, 1))
    load(entry, tmp_path).close()
    assert folder.stat().st_mtime > 1


def test_an_artifact_is_served_with_its_profile(make: Make, tmp_path: Path) -> None:
    entry = make()
    key = backends.artifact_key(entry, "cpu")
    assert key is not None
    profile = Profile(precision="f32" if entry.backend == "openvino" else "", requests=2, threads=2)

    def make_with_profile(folder: Path) -> backends.Made:
        return replace(backends.make(entry, "cpu", folder, profile.precision), profile=profile)

    ArtifactStore(tmp_path).add(key, entry.reference, 1 << 30, make_with_profile)
    model = load(entry, tmp_path)
    assert isinstance(model, Detector)
    assert model.profile == profile
    waiting = [model.prepare(PICTURE) for _ in range(profile.requests)]
    assert [len(model.answer(one)) for one in waiting] == [1, 1]
    model.close()
