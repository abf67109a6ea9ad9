"""Engines answer as the files that they were built of, and no other engine is ever used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.fake_gpu.installed import FakeGpu, installed
from support.fake_gpu.libcuda import FakeCuda
from support.seeing_models import pictures

from agent.files import file_sha256
from agent.inference import backends
from agent.inference.artifacts.artifact_store import ArtifactStore, Opened
from agent.inference.backends import choice
from agent.inference.cuda import driver, identity
from agent.inference.preparing.build_process import prepare
from agent.inference.preparing.precision import make_best
from agent.inference.validation import parity
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

COMPUTE = "tensorrt:0"
Seeing = Callable[..., ModelVersion]
Build = Callable[..., Opened]

MODELS: dict[str, dict[str, Any]] = {
    "anchors": {"head": "anchors"},
    "many classes": {"head": "anchors", "classes": 20},
    "objectness": {"head": "objectness"},
    "pixels as bytes": {"takes_bytes": True},
    "float16": {"half": True},
    "open sides": {"dynamic": True},
    "more cells than candidates": {"imgsz": 640, "hidden": 4},
}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_an_engine_answers_as_its_file(seeing: Seeing, build: Build, options: dict[str, Any]) -> None:
    version = seeing(**options)
    seen = pictures(size=(options.get("imgsz", 64) * 3 // 4, options.get("imgsz", 64)))
    file = backends.load_for(version, COMPUTE, "f32")
    expected = parity.answers(file, seen)
    file.close()
    engine = backends.restore(version, build(version), COMPUTE, Path())
    found = [engine.infer(picture) for picture in seen]
    checked = parity.answers(engine, seen)
    engine.close()
    assert sum(map(len, expected)) > len(seen)
    for answers in (found, checked):  # as graphs, and piece by piece
        compared = parity.compare(expected, answers, version.confidence)
        assert compared.matched == compared.boxes > 0
        assert compared.score_difference < (0.01 if options.get("half") else 1e-4)


def test_frames_are_graphs_of_high_priority_and_loads_are_not(gpu: FakeGpu, entry: ModelVersion, build: Build) -> None:
    engine = backends.restore(entry, build(entry), COMPUTE, Path())
    high, low = (gpu.cuda.streams[gpu.cuda.stream_of(priority)] for priority in ("high", "low"))
    frames, loads, launches = high.computed, low.computed, gpu.cuda.launches
    engine.check_outputs(pictures(1)[0])
    assert (high.computed, low.computed) == (frames, loads + 1)
    for _ in range(3):
        engine.infer(pictures(1)[0])
    assert (high.computed, low.computed, gpu.cuda.launches) == (frames + 3, loads + 1, launches + 3)
    engine.close()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_half_precision_is_real_and_near(entry: ModelVersion, build: Build, precision: str) -> None:
    opened = build(entry, precision)
    engine = backends.restore(entry, opened, COMPUTE, Path())
    file = backends.load_for(entry, COMPUTE, "f32")
    picture = pictures(1)[0]
    want, got = file.infer(picture), engine.infer(picture)
    differences = np.abs(np.sort(want.scores) - np.sort(got.scores)) if len(want) == len(got) else np.ones(1)
    assert differences.max() < (1e-5 if precision == "f32" else 0.02)
    if precision == "f16":
        assert differences.max() > 0
    engine.close()
    file.close()


@pytest.mark.usefixtures("gpu")
def test_the_fastest_precision_with_equal_answers_is_kept(entry: ModelVersion, tmp_path: Path) -> None:
    steps: list[str] = []
    made = make_best(entry, COMPUTE, tmp_path, None, steps.append)
    assert made.profile.precision in {"f32", "f16"}
    assert any("f16" in step and "candidates alike" in step for step in steps)


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("wrong", [{"takes_bgr": True}, {"takes_bytes": True}, {"head": "objectness"}])
def test_a_wrong_layer_gives_wrong_answers_and_no_artifact(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    """The fake computes by the network's layers, or all tests here would pass by themselves."""
    from agent.inference.backends.engine_build import walled_build  # noqa: PLC0415 - over the fake

    right = walled_build.build
    monkeypatch.setattr(
        walled_build, "build", lambda name, asked, tell: right(name, msgspec.structs.replace(asked, **wrong), tell)
    )
    with pytest.raises(ModelError) as refused:
        make_best(entry, COMPUTE, tmp_path, None, print)
    assert refused.value.reason in {"proof_failed", "implausible"}


@pytest.mark.usefixtures("gpu")
def test_models_prepare_builds_and_the_next_load_serves_it(entry: ModelVersion, tmp_path: Path) -> None:
    steps: list[str] = []
    outcome = prepare(Request(entry, COMPUTE, str(tmp_path / "cache")), steps.append)
    assert outcome.result == "prepared", outcome.detail
    assert any("Tactic timing, step" in step for step in steps)
    model = backends.load(entry, COMPUTE, tmp_path / "cache")
    assert model.backend == "tensorrt"
    assert len(model.infer(pictures(1)[0]))
    model.close()
    assert list((tmp_path / "cache" / "tensorrt").glob("timings-*-sm87.bin"))
    assert prepare(Request(entry, COMPUTE, str(tmp_path / "cache")), steps.append).result == "present"


@pytest.mark.usefixtures("one_gpu")
def test_until_then_the_other_runtime_serves_and_says_so(
    entry: ModelVersion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = backends.load(entry, COMPUTE, tmp_path)
    assert model.backend == "openvino"
    model.close()
    assert "event=engine_not_built" in caplog.text


def test_the_gpus_other_runtime_goes_before_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "faults", lambda _: ("CPU wheel of onnxruntime",))
    assert choice.compute_until_built("tensorrt:1") == "cpu"
    monkeypatch.setattr(choice, "faults", lambda _: ())
    assert choice.compute_until_built("tensorrt:1") == "cuda:1"


@pytest.mark.usefixtures("one_gpu")
def test_without_tensorrt_or_a_driver_the_word_is_refused(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="GPU 3 is not one of them"):
        backends.load(entry, "tensorrt:3", tmp_path)

    def missing() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    driver.driver.cache_clear()
    identity.identity_of.cache_clear()
    monkeypatch.setattr(driver, "open_library", missing)
    with pytest.raises(ModelError, match=r"compute tensorrt:0 did not start: libcuda\.so\.1"):
        backends.load(entry, COMPUTE, tmp_path)
    monkeypatch.setattr(choice, "faults", lambda _: ("no TensorRT (no Python module tensorrt)",))
    with pytest.raises(ModelError, match="no TensorRT"):
        backends.load(entry, COMPUTE, tmp_path)


def test_no_two_models_and_no_two_devices_share_an_engine(seeing: Seeing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fine-tunes differ in their weights alone: names and shapes agree."""
    one, two = seeing("one", seed=1), seeing("two", seed=2)
    keys = {}
    places = {
        "first": ("10.3.0", "87", 12060),
        "another TensorRT": ("10.16.1.11", "87", 12060),
        "another GPU": ("10.3.0", "89", 12060),
    }
    for name, (trt, sm, _) in places.items():
        with installed(trt, FakeCuda(sm=(int(sm[0]), int(sm[1]))), sm=sm):
            keys[name] = backends.artifact_key(one, COMPUTE)
            keys[f"{name}, fine-tuned"] = backends.artifact_key(two, COMPUTE)
            sized = msgspec.structs.replace(one, imgsz=32)
            keys[f"{name}, another size"] = backends.artifact_key(sized, COMPUTE)
    with installed("10.3.0", FakeCuda()):
        monkeypatch.setattr(choice, "identity_of", lambda _: _NEW_DRIVER)
        keys["another driver"] = backends.artifact_key(one, COMPUTE)
    assert None not in keys.values()
    assert len(set(keys.values())) == len(keys)


class _NewDriver:
    sm = "87"
    driver = "R36.5 CUDA 12060"


_NEW_DRIVER = _NewDriver()


def test_a_plan_of_another_tensorrt_is_built_again_and_never_deserialised(
    entry: ModelVersion, build: Build, tmp_path: Path
) -> None:
    with installed("10.3.0", FakeCuda()):
        opened = build(entry)
    with installed("10.16.1.11", FakeCuda()) as gpu:
        from agent.inference.backends.tensorrt.plan import PlanRefusedError  # noqa: PLC0415 - over the fake

        with pytest.raises(PlanRefusedError, match=r"10\.3\.0"):
            backends.restore(entry, opened, COMPUTE, Path())
        key = backends.artifact_key(entry, COMPUTE)
        assert key is not None
        store = ArtifactStore(tmp_path / "cache")

        def as_if_built_here(folder: Path) -> backends.Made:
            (folder / "model.plan").write_bytes(opened.path.read_bytes())
            artifact = opened.artifact
            return backends.Made("model.plan", artifact.facts, artifact.imgsz, artifact.shapes)

        store.add(key, entry.reference, 1 << 30, as_if_built_here)
        model = backends.load(entry, COMPUTE, tmp_path / "cache")
        assert model.backend == "openvino"
        model.close()
        assert store.find(key) is None
        assert gpu.trt.deserialized == 0
        assert prepare(Request(entry, COMPUTE, str(tmp_path / "cache")), print).result == "prepared"


def test_timings_of_one_build_shorten_the_next(gpu: FakeGpu, entry: ModelVersion, tmp_path: Path) -> None:
    from agent.inference.backends.engine_build import builder  # noqa: PLC0415 - over the fake
    from agent.inference.backends.engine_build.request import GRAPH, EngineRequest  # noqa: PLC0415 - the same
    from agent.inference.sandbox import Limits  # noqa: PLC0415 - the same

    (tmp_path / GRAPH).write_bytes(Path(entry.path).read_bytes())
    asked = EngineRequest(
        folder=str(tmp_path),
        imgsz=(64, 64),
        takes_bytes=False,
        takes_bgr=False,
        head="anchors",
        precision="f32",
        gpu=0,
        workspace_bytes=1 << 20,
        parent=0,
        limits=Limits(0, 1, 1.0, 1),
        is_trusted=False,
    )
    told: list[str] = []
    builder.build(asked, told.append)
    assert gpu.trt.timed
    assert told
    gpu.trt.timed.clear()
    builder.build(asked, told.append)
    assert not gpu.trt.timed


@pytest.mark.usefixtures("one_gpu")
def test_a_file_of_no_known_output_is_refused_by_name(
    version: Callable[..., ModelVersion], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_model(tmp_path / "tiny.onnx", shape=(1, 9))
    entry = version(path, sha256=file_sha256(path))
    outcome = prepare(Request(entry, COMPUTE, str(tmp_path / "cache")), print)
    assert outcome.result == "failed"
    assert (outcome.reason, "the output is (1, 9)" in outcome.detail) == ("proof_failed", True)


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(("visible", "gpu", "seen"), [(None, 0, "0"), (None, 1, "1"), ("2,5", 1, "5"), ("", 1, "1")])
def test_an_engine_is_built_on_the_gpu_that_will_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, gpu: int, seen: str
) -> None:
    from agent.inference.backends.engine_build import walled_build  # noqa: PLC0415 - over the fake

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CHANGEOVER_MQTT_PASSWORD", "secret")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = walled_build.environment(tmp_path, gpu)
    assert found["CUDA_VISIBLE_DEVICES"] == seen
    assert "secret" not in found.values()
