"""Files are hashed; what is remembered of one ends with any change of it."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.inference.swapping.file_check import FileCheck
from agent.messages.errors import ModelError
from agent.messages.references import ModelFile, ModelVersion

VersionOf = Callable[..., ModelVersion]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def entry(version: VersionOf, tmp_path: Path) -> ModelVersion:
    """Write a file that counts as old at once."""
    path = tmp_path / "cap.onnx"
    path.write_bytes(b"content")
    scratch = tmp_path / "scratch"
    scratch.touch()
    while scratch.stat().st_ctime_ns <= path.stat().st_ctime_ns:  # the file system's clock ticks in milliseconds
        scratch.touch()
    return version(path, sha256=sha256_of(b"content"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collect the digests that are really made."""
    digests: list[object] = []
    sha256 = hashlib.sha256

    def note(*content: bytes) -> object:
        digests.append(sha256(*content))
        return digests[-1]

    monkeypatch.setattr(hashlib, "sha256", note)
    return digests


def test_a_file_that_is_right_is_known_afterwards(entry: ModelVersion, hashed: list[object]) -> None:
    check = FileCheck(settled_ns=-1)
    assert [check.require_unchanged(entry) for _ in range(3)] == [7, 7, 7]
    assert len(hashed) == 1
    assert check.require_right(entry) == 7
    assert len(hashed) == 2


def write(path: Path) -> None:
    path.write_bytes(b"CONTENT")


def keep_times(path: Path) -> None:
    info = path.stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replace(path: Path) -> None:
    info = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"CONTENT")
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    other.rename(path)


def cut(path: Path) -> None:
    os.truncate(path, 3)


@pytest.mark.parametrize("change", [write, keep_times, replace, cut])
def test_any_change_is_seen(entry: ModelVersion, change: Callable[[Path], None]) -> None:
    check = FileCheck(settled_ns=-1)
    check.require_unchanged(entry)
    change(Path(entry.path))
    with pytest.raises(ModelError, match="as in the catalog") as refused:
        check.require_unchanged(entry)
    assert refused.value.reason == "hash_mismatch"


def test_another_sha256_in_the_catalog_is_another_question(entry: ModelVersion, version: VersionOf) -> None:
    check = FileCheck(settled_ns=-1)
    check.require_unchanged(entry)
    with pytest.raises(ModelError):
        check.require_unchanged(version(Path(entry.path), sha256=sha256_of(b"else")))


def test_a_file_that_is_gone_is_missing(entry: ModelVersion) -> None:
    check = FileCheck(settled_ns=-1)
    check.require_unchanged(entry)
    Path(entry.path).unlink()
    with pytest.raises(ModelError) as refused:
        check.require_unchanged(entry)
    assert refused.value.reason == "file_missing"


def test_a_file_that_has_just_changed_is_not_known(entry: ModelVersion, hashed: list[object]) -> None:
    check = FileCheck(settled_ns=3_600_000_000_000)
    for _ in range(2):
        check.require_unchanged(entry)
    assert len(hashed) == 2


def test_the_weights_beside_a_graph_count_too(version: VersionOf, tmp_path: Path) -> None:
    (tmp_path / "cap.xml").write_bytes(b"graph")
    (tmp_path / "cap.bin").write_bytes(b"weights")
    entry = version(
        tmp_path / "cap.xml", sha256=sha256_of(b"graph"), files=(ModelFile("cap.bin", sha256_of(b"weights")),)
    )
    check = FileCheck(settled_ns=-1)
    assert check.require_unchanged(entry) == 12
    (tmp_path / "cap.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(ModelError, match=r"cap\.bin has sha256"):
        check.require_unchanged(entry)


def test_what_one_process_verified_the_next_need_not_hash(entry: ModelVersion, hashed: list[object]) -> None:
    first, next_one = FileCheck(settled_ns=-1), FileCheck(settled_ns=-1)
    assert first.remembered(entry) == ()
    first.require_unchanged(entry)
    next_one.recall(entry, first.remembered(entry))
    assert next_one.require_unchanged(entry) == 7
    assert len(hashed) == 1
    assert next_one.remembered(entry) == first.remembered(entry)


@pytest.mark.parametrize("change", [write, keep_times, replace, cut])
def test_a_change_between_two_processes_is_seen(entry: ModelVersion, change: Callable[[Path], None]) -> None:
    first, next_one = FileCheck(settled_ns=-1), FileCheck(settled_ns=-1)
    first.require_unchanged(entry)
    change(Path(entry.path))
    next_one.recall(entry, first.remembered(entry))
    with pytest.raises(ModelError, match="as in the catalog"):
        next_one.require_unchanged(entry)


def test_a_file_that_is_not_remembered_leaves_nothing_to_recall(entry: ModelVersion, hashed: list[object]) -> None:
    young, next_one = FileCheck(settled_ns=3_600_000_000_000), FileCheck(settled_ns=-1)
    young.require_unchanged(entry)
    next_one.recall(entry, young.remembered(entry))
    next_one.require_unchanged(entry)
    assert len(hashed) == 2
