"""Files that run code when they are read: opened where the catalog says `unsafe`, and else only what was prepared."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.files import file_sha256
from agent.inference import backends
from agent.inference.artifacts.artifact_store import ArtifactStore, Made
from agent.inference.backends import NotPreparedError
from agent.inference.backends.choice import artifact_key, unprepared
from agent.inference.validation.probe_process import attempt
from agent.inference.yolo.metadata import FileFacts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

VersionOf = Callable[..., ModelVersion]


@dataclass(frozen=True)
class Trap:
    """Whoever unpickles this leaves a file."""

    path: str

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.fixture
def trap(version: VersionOf, tmp_path: Path) -> VersionOf:
    """Write a trap with the suffix that is asked for, and return its entry."""

    def write(suffix: str = ".pt", **fields: object) -> ModelVersion:
        path = tmp_path / f"trap{suffix}"
        path.write_bytes(pickle.dumps(Trap(str(tmp_path / "ran"))))
        return version(path, sha256=file_sha256(path), **fields)

    return write


def test_a_checkpoint_is_not_opened_before_it_is_prepared(trap: VersionOf, tmp_path: Path) -> None:
    with pytest.raises(NotPreparedError, match="changeover models prepare tiny:n@1") as refused:
        backends.load(trap(), "cpu", tmp_path / "cache")
    assert refused.value.reason == "load_failed"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("suffix", "fields", "compute", "words"),
    [
        (".pt", {"backend": "ultralytics"}, "cpu", "leave `backend` out"),
        (".engine", {}, "cpu", "use the .onnx"),
        (".engine", {}, "cuda:0", "use the .onnx"),
        (".engine", {"backend": "ultralytics"}, "auto", "use the .onnx"),
        (".engine", {"backend": "openvino"}, "auto", "use the .onnx"),
        (".ENGINE", {}, "auto", "use the .onnx"),
        (".torchscript", {}, "auto", "use the .onnx"),
        (".pth", {}, "auto", "use the .onnx"),
        ("", {}, "auto", "a file without a suffix"),
        (".engine.bin", {}, "auto", "use the .onnx"),
        (".pt.onnx", {"backend": "ultralytics"}, "auto", "may be another format"),
        (".engine.onnx", {"backend": "ultralytics"}, "auto", "may be another format"),
    ],
)
def test_what_cannot_be_prepared_is_refused_with_what_to_do(  # noqa: PLR0913, PLR0917 - one case a row
    trap: VersionOf, tmp_path: Path, suffix: str, fields: dict[str, object], compute: str, words: str
) -> None:
    with pytest.raises(ModelError, match="`unsafe = true` in the catalog") as refused:
        backends.load(trap(suffix, **fields), compute, tmp_path / "cache")
    assert words in str(refused.value)
    assert not isinstance(refused.value, NotPreparedError)
    assert not (tmp_path / "ran").exists()


def test_a_trial_opens_no_checkpoint_either(trap: VersionOf, tmp_path: Path) -> None:
    tried = attempt(trap(), "cpu", tmp_path / "cache")
    assert tried.is_unprepared
    assert not (tmp_path / "ran").exists()


@pytest.mark.torch
def test_unsafe_opens_it_as_it_is(trap: VersionOf, tmp_path: Path) -> None:
    """By ultralytics, which still asks for its own safe load: that refuses this one, in its own words."""
    pytest.importorskip("torch")
    with pytest.raises(ModelError) as refused:
        backends.load(trap(unsafe=True), "cpu", tmp_path / "cache")
    assert not isinstance(refused.value, NotPreparedError)


def test_what_is_not_prepared_is_named(trap: VersionOf, version: VersionOf, tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path / "cache")
    entry = trap()
    others = (version(tmp_path / "cap.onnx"), trap(unsafe=True), trap(".engine", unsafe=True))
    (word,) = unprepared((entry, *others), "cpu", artifacts)
    assert word.startswith("tiny:n@1: its .pt is not prepared")
    key = artifact_key(entry, "cpu")
    assert key is not None

    def make(folder: Path) -> Made:
        (folder / "blob").write_bytes(b"compiled")
        return Made("blob", FileFacts(), (64, 64), ((1, 6, 84),))

    artifacts.add(key, entry.reference, 1 << 20, make)
    artifacts.folder.chmod(0o755)  # as another user's, which is told of and not opened
    assert artifacts.find(key) is None
    assert not list(unprepared((entry,), "cpu", artifacts))
