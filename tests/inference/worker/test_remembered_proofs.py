"""A proof is remembered with its artifact, repeated in idle time, and taken back where it fails."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, Final, cast

import cv2
import msgspec
import numpy as np
import pytest
from inference.worker.dummies import PlantOfDummies, start_dummies, wait_for
from inference.worker.plant import offer
from numpy.typing import NDArray

from agent.files import ByteSink, stream_sha256
from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends import Model, artifact_key, load
from agent.inference.backends.detector import Detector
from agent.inference.preparing.build_process import prepare
from agent.inference.scheduling import load_priority
from agent.inference.swapping import idle_prover
from agent.inference.validation.golden import proof_steps
from agent.inference.validation.proof_record import ProofRecord
from agent.inference.yolo.objects import Objects
from agent.messages.children import Detections, InferenceFailed, Log
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

pytest.importorskip("agent.inference.backends.openvino")

MakeVersion = Callable[..., ModelVersion]
BUSY: Final = 2.0
IDLE: Final = -1.0


class CountingRuntime:
    """Loads models for real, and counts the pictures that each load and what follows it check."""

    def __init__(self) -> None:
        self.checked: Final[list[int]] = []
        self.is_wrong = False

    def load(self, version: ModelVersion, compute: str, cache_dir: Path) -> Detector:
        model = cast("Detector", load(version, compute, cache_dir))
        check, number = model.check_outputs, len(self.checked)
        self.checked.append(0)

        def counted(image: NDArray[np.uint8]) -> Objects:
            self.checked[number] += 1
            if self.is_wrong:
                raise ModelError("implausible", "its scores are beyond 1")
            return check(image)

        model.check_outputs = counted  # type: ignore[method-assign]
        return model


@pytest.fixture
def version(make_version: MakeVersion, tmp_path: Path) -> ModelVersion:
    """Return a prepared model that was proven at a first load, with a golden picture."""
    folder = tmp_path / "golden"
    folder.mkdir()
    cv2.imwrite(str(folder / "01.png"), np.full((64, 64, 3), 90, np.uint8))
    made = make_version("cap", {"golden": str(folder)})
    assert prepare(Request(made, "cpu", str(tmp_path / "cache")), lambda _: None).result == "prepared"
    model = load(made, "cpu", tmp_path / "cache")
    found = model.infer(np.full((64, 64, 3), 90, np.uint8))
    objects = [
        {"label": "cap", "class": 0, "score": float(score), "box": [float(side) for side in box]}
        for box, score in zip(found.boxes, found.scores, strict=True)
    ]
    model.close()
    (folder / "01.json").write_text(json.dumps({"objects": objects}))
    return made


@pytest.fixture
def runtime() -> CountingRuntime:
    return CountingRuntime()


@pytest.fixture
def begin(tmp_path: Path, runtime: CountingRuntime) -> Iterator[Callable[[], PlantOfDummies]]:
    """Start a worker, ending the one before."""
    with ExitStack() as last:

        def start() -> PlantOfDummies:
            last.close()
            return start_dummies(last, runtime.load, tmp_path / "cache")

        yield start


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Leave no idle time, until a test says otherwise."""

    def set_them(enough_idle: float) -> None:
        monkeypatch.setattr(load_priority, "ENOUGH_IDLE", enough_idle)

    set_them(BUSY)
    return set_them


def proof_of(version: ModelVersion, cache_dir: Path) -> str | None:
    found = ArtifactStore(cache_dir).find(artifact_key(version, "cpu"))
    return found.proof if found is not None else None


def test_what_was_proven_before_infers_one_picture_at_its_next_load(
    begin: Callable[[], PlantOfDummies], runtime: CountingRuntime, version: ModelVersion
) -> None:
    for _ in range(3):
        begin().switch(version)
    assert runtime.checked == [3, 1, 1], "a blank one, one of shapes and the golden one; then that of shapes"


def test_the_next_worker_hashes_no_source_that_this_one_has_verified(
    begin: Callable[[], PlantOfDummies],
    runtime: CountingRuntime,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = SimpleNamespace(time_ns=lambda: time.time_ns() + 3_600_000_000_000)  # so that the file has settled
    hashed: list[BinaryIO] = []

    def note(stream: BinaryIO, copy: ByteSink | None = None) -> str:
        hashed.append(stream)
        return stream_sha256(stream, copy)

    monkeypatch.setattr("agent.inference.swapping.file_check.time", later)
    monkeypatch.setattr("agent.inference.swapping.file_check.stream_sha256", note)
    for _ in range(3):
        begin().switch(version)
    assert len(hashed) == 1
    assert runtime.checked == [3, 1, 1], "what is recorded of the source is no matter of the proof"
    file = Path(version.path)
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    assert begin().refusal(version).reason == "hash_mismatch"
    file.write_bytes(content)
    begin().switch(version)


@pytest.mark.parametrize("changes", ["expected", "picture", "confidence", "precision", "release", "artifact"])
def test_whatever_a_proof_depends_on_has_it_repeated(  # noqa: PLR0917, PLR0913 - the fixtures of one scene
    begin: Callable[[], PlantOfDummies],
    runtime: CountingRuntime,
    version: ModelVersion,
    changes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin().switch(version)
    artifacts, key = ArtifactStore(tmp_path / "cache"), artifact_key(version, "cpu")
    artifact = artifacts.find(key)
    assert artifact is not None
    assert key is not None
    golden = tmp_path / "golden"
    if changes == "expected":
        (golden / "01.json").write_text(json.dumps(json.loads((golden / "01.json").read_text()), indent=4))
    elif changes == "picture":
        cv2.imwrite(str(golden / "01.png"), np.full((64, 64, 3), 91, np.uint8))
    elif changes == "confidence":
        version = msgspec.structs.replace(version, confidence=0.3)
    elif changes == "precision":
        other = "" if artifact.profile.precision else "f32"
        artifacts.profiled(key, msgspec.structs.replace(artifact.profile, precision=other))
    elif changes == "release":
        monkeypatch.setattr("agent.inference.validation.proof_record.__version__", "another")
    else:
        assert proof_of(version, tmp_path / "cache")
        artifacts.discard(key, "a test")
        assert prepare(Request(version, "cpu", str(tmp_path / "cache")), lambda _: None).result == "prepared"
    begin().switch(version)
    assert runtime.checked == [3, 3]


def test_a_record_that_decodes_its_answers_otherwise_is_proven_again(
    begin: Callable[[], PlantOfDummies], runtime: CountingRuntime, version: ModelVersion, tmp_path: Path
) -> None:
    begin().switch(version)
    artifacts, key = ArtifactStore(tmp_path / "cache"), artifact_key(version, "cpu")
    artifact = artifacts.find(key)
    assert artifact is not None
    assert key is not None
    other = dataclasses.replace(artifact.facts, names=tuple(f"no-{name}" for name in artifact.facts.names))
    artifacts._rewrite(key, facts=other)
    assert begin().refusal(version).reason == "proof_failed", "its golden picture shows a cap"
    assert runtime.checked == [3, 3]


def test_a_graph_for_a_card_is_proven_at_each_load_because_its_key_names_no_runtime(
    version: ModelVersion, tmp_path: Path
) -> None:
    checkpoint = msgspec.structs.replace(version, path=str(tmp_path / "cap.pt"))
    key = artifact_key(checkpoint, "cuda:0")
    assert key is not None
    kept = ArtifactStore(tmp_path / "cache").folder
    shutil.copytree(kept / (artifact_key(version, "cpu") or ""), kept / key)
    assert ArtifactStore(tmp_path / "cache").find(key) is not None
    assert ProofRecord(tmp_path / "cache", "cuda:0").subject(checkpoint) == ""


def test_a_failed_proof_is_not_remembered(
    begin: Callable[[], PlantOfDummies], runtime: CountingRuntime, version: ModelVersion, tmp_path: Path
) -> None:
    right = (tmp_path / "golden" / "01.json").read_text()
    extra = {"label": "cap", "class": 0, "score": 0.9, "box": [0, 0, 9, 9]}
    wrong = {"objects": [*json.loads(right)["objects"], extra]}
    (tmp_path / "golden" / "01.json").write_text(json.dumps(wrong))
    assert begin().refusal(version).reason == "proof_failed"
    assert begin().refusal(version).reason == "proof_failed"
    (tmp_path / "golden" / "01.json").write_text(right)
    begin().switch(version)
    assert runtime.checked == [3, 3, 3]


def test_idle_time_repeats_a_remembered_proof_once(
    begin: Callable[[], PlantOfDummies],
    runtime: CountingRuntime,
    version: ModelVersion,
    cores: Callable[[float], None],
    tmp_path: Path,
) -> None:
    begin().switch(version)
    plant = begin()
    plant.switch(version)
    assert runtime.checked == [3, 1]
    cores(IDLE)
    wait_for(lambda: runtime.checked == [3, 4])
    assert plant.detect().model == version.reference
    assert proof_of(version, tmp_path / "cache")


def test_a_model_that_no_longer_passes_serves_no_frame_and_is_proven_at_its_next_load(
    begin: Callable[[], PlantOfDummies],
    runtime: CountingRuntime,
    version: ModelVersion,
    make_version: MakeVersion,
    cores: Callable[[float], None],
) -> None:
    cache_dir = Path(version.path).parent / "cache"
    begin().switch(version)
    plant = begin()
    plant.switch(version)
    runtime.is_wrong = True
    cores(IDLE)
    wait_for(lambda: plant.of(Log))
    assert "was proven before, and no longer is: its scores are beyond 1" in plant.of(Log)[0].text
    assert proof_of(version, cache_dir) is None
    offer(plant.writers["cam-1"])
    plant.wait_until(lambda: bool(plant.of(InferenceFailed)))
    assert "no longer is" in plant.of(InferenceFailed)[0].detail
    assert not plant.of(Detections)
    runtime.is_wrong = False
    plant.switch(make_version("other"))
    plant.switch(version)
    assert plant.detect().model == version.reference
    assert runtime.checked[-1] == 3, "from the file now, and proven"


def test_bits_of_the_source_that_rotted_are_found_in_idle_time(
    begin: Callable[[], PlantOfDummies], version: ModelVersion, cores: Callable[[float], None], tmp_path: Path
) -> None:
    begin().switch(version)
    file, key = Path(version.path), artifact_key(version, "cpu")
    assert key is not None
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    info = file.stat()
    seen = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    ArtifactStore(tmp_path / "cache").verified(key, (seen,))
    plant = begin()
    plant.switch(version)
    cores(IDLE)
    wait_for(lambda: plant.of(Log))
    assert "no longer is" in plant.of(Log)[0].text
    assert "sha256" in plant.of(Log)[0].text
    assert proof_of(version, tmp_path / "cache") is None


def test_a_source_that_is_gone_condemns_nothing(
    begin: Callable[[], PlantOfDummies],
    runtime: CountingRuntime,
    version: ModelVersion,
    cores: Callable[[float], None],
) -> None:
    begin().switch(version)
    plant = begin()
    plant.switch(version)
    Path(version.path).unlink()
    cores(IDLE)
    wait_for(lambda: runtime.checked == [3, 4])
    assert not plant.of(Log)
    assert plant.detect().model == version.reference


def test_a_picture_that_cannot_be_read_for_a_moment_condemns_nothing(  # noqa: PLR0913, PLR0917 - the fixtures of one scene
    begin: Callable[[], PlantOfDummies],
    runtime: CountingRuntime,
    version: ModelVersion,
    cores: Callable[[float], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin().switch(version)
    plant = begin()
    plant.switch(version)
    picture, steps = tmp_path / "golden" / "01.png", proof_steps

    def steps_without_the_disk(model: Model, version: ModelVersion) -> Iterator[bool]:
        away = picture.with_suffix(".away")
        try:
            for number, step in enumerate(steps(model, version)):
                if number == 2:  # the golden picture comes next
                    away.symlink_to("nowhere")
                    picture.rename(tmp_path / "kept.png")
                    away.rename(picture)
                yield step
        finally:
            (tmp_path / "kept.png").rename(picture)

    monkeypatch.setattr(idle_prover, "proof_steps", steps_without_the_disk)
    cores(IDLE)
    with caplog.at_level("INFO"):
        wait_for(lambda: "proof_put_off" in caplog.text or plant.of(Log))
    assert not plant.of(Log)
    assert plant.detect().model == version.reference
    assert runtime.checked == [3, 3]
