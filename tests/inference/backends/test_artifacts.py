"""Prepared artifacts on disk: whole or not there, ours alone, within their quota."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.files import file_sha256
from agent.inference.artifacts.artifact_store import ArtifactStore, Made, key_of
from agent.inference.artifacts.mapped_file import MappedFile
from agent.inference.preparing.build_process import prepare
from agent.inference.yolo.metadata import FileFacts
from agent.messages.references import ModelFile, ModelVersion, Preprocess
from agent.models.preparation import Request

VersionOf = Callable[..., ModelVersion]
FACTS = FileFacts(("cap", "no-cap"), (64, 64), "detect", end2end=False)
ROOT = Path(__file__).parents[3]
PLENTY = 1 << 20


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


def writer(content: bytes) -> Callable[[Path], Made]:
    def write(folder: Path) -> Made:
        (folder / "model.blob").write_bytes(content)
        (folder / "between.bin").write_bytes(b"left over")
        return Made("model.blob", FACTS, (64, 64), ((1, 6, 84),))

    return write


def age(artifacts: ArtifactStore, key: str, seconds: float) -> None:
    then = (artifacts.folder / key).stat().st_mtime - seconds
    os.utime(artifacts.folder / key, (then, then))


def blob_of(artifacts: ArtifactStore, key: str) -> Path:
    return artifacts.folder / key / "model.blob"


def test_what_was_made_is_found_with_what_is_known_of_it(artifacts: ArtifactStore) -> None:
    made = artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    opened = ArtifactStore(artifacts.folder.parent).open("a")
    assert opened is not None
    assert opened[0] == made
    assert (made.facts, made.imgsz, made.shapes, made.bytes) == (FACTS, (64, 64), ((1, 6, 84),), 3)
    assert bytes(opened[1].array) == b"abc"
    assert sorted(path.name for path in (artifacts.folder / "a").iterdir()) == ["artifact.json", "model.blob"]


def test_nothing_is_found_where_nothing_is(artifacts: ArtifactStore) -> None:
    assert artifacts.find("a") is None
    assert artifacts.open("a") is None
    assert artifacts.find(None) is None


@pytest.mark.parametrize("content", [b"abd", b"", b"abcd"], ids=["changed", "empty", "longer"])
def test_damaged_bytes_are_never_handed_out(artifacts: ArtifactStore, content: bytes) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    blob_of(artifacts, "a").write_bytes(content)
    assert artifacts.open("a") is None
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"new"))
    opened = artifacts.open("a")
    assert opened is not None
    assert bytes(opened[1].array) == b"new"


def test_a_damaged_one_is_removed(artifacts: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    blob_of(artifacts, "a").write_bytes(b"abd")
    assert artifacts.open("a") is None
    assert list(artifacts.folder.iterdir()) == []
    assert "event=artifact_removed artifact=a source=cap:n@1" in caplog.text


@pytest.mark.parametrize("record", [b"", b"{", b'{"file": "../../x"}', b"[]"])
def test_a_spoilt_record_is_nothing(artifacts: ArtifactStore, record: bytes) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    (artifacts.folder / "a" / "artifact.json").write_bytes(record)
    assert artifacts.open("a") is None


def test_a_record_cannot_point_elsewhere(artifacts: ArtifactStore) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    record = artifacts.folder / "a" / "artifact.json"
    (artifacts.folder / "a" / "artifact.json").write_bytes(record.read_bytes().replace(b"model.blob", b"../b"))
    (artifacts.folder / "b").write_bytes(b"abc")
    assert artifacts.open("a") is None


@pytest.mark.parametrize("which", ["all", "one"])
def test_what_others_may_write_is_not_trusted(artifacts: ArtifactStore, which: str) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    (artifacts.folder if which == "all" else artifacts.folder / "a").chmod(0o770)
    assert artifacts.open("a") is None


def test_a_linked_folder_is_not_trusted(artifacts: ArtifactStore, tmp_path: Path) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    (artifacts.folder / "a").rename(tmp_path / "elsewhere")
    (artifacts.folder / "a").symlink_to(tmp_path / "elsewhere")
    assert artifacts.open("a") is None


def test_folders_are_this_users_alone(artifacts: ArtifactStore) -> None:
    artifacts.add("a", "cap:n@1", PLENTY, writer(b"abc"))
    assert [path.stat().st_mode & 0o777 for path in (artifacts.folder, artifacts.folder / "a")] == [0o700, 0o700]


def test_the_one_used_longest_ago_makes_room(artifacts: ArtifactStore) -> None:
    for number, key in enumerate("abc"):
        artifacts.add(key, key, PLENTY, writer(bytes(20_000)))
        age(artifacts, key, 100 - number)
    assert artifacts.open("a") is not None
    artifacts.add("d", "d", 75_000, writer(bytes(20_000)))
    assert [key for key in "abcd" if artifacts.find(key)] == ["a", "c", "d"]
    assert artifacts.used_bytes() <= 75_000


def test_one_that_is_over_the_quota_alone_costs_no_other(artifacts: ArtifactStore) -> None:
    artifacts.add("a", "a", PLENTY, writer(b"abc"))
    with pytest.raises(OSError, match="may take 50000") as refused:
        artifacts.add("b", "b", 50_000, writer(bytes(60_000)))
    assert refused.value.errno == errno.ENOSPC
    assert artifacts.find("a")
    assert [path.name for path in artifacts.folder.iterdir()] == ["a"]


def test_a_failure_leaves_nothing(artifacts: ArtifactStore) -> None:
    def fail(folder: Path) -> Made:
        (folder / "half").write_bytes(b"abc")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        artifacts.add("a", "a", PLENTY, fail)
    assert list(artifacts.folder.iterdir()) == []


def test_drafts_of_the_killed_go_after_an_hour(artifacts: ArtifactStore) -> None:
    artifacts.folder.mkdir(parents=True)
    for name, age_s in ((".draft-old", 7200), (".draft-new", 0)):
        (artifacts.folder / name).mkdir()
        age(artifacts, name, age_s)
    artifacts.add("a", "a", PLENTY, writer(b"abc"))
    assert sorted(path.name for path in artifacts.folder.iterdir()) == [".draft-new", "a"]


def test_a_key_changes_with_all_that_an_artifact_depends_on(version: VersionOf) -> None:
    base = version(Path("cap.onnx"), sha256="00")
    others = [
        key_of(version(Path("cap.onnx"), sha256="01"), "openvino", "cpu"),
        key_of(version(Path("cap.onnx"), sha256="00", imgsz=320), "openvino", "cpu"),
        key_of(version(Path("cap.onnx"), sha256="00", preprocess=Preprocess(colours="bgr")), "openvino", "cpu"),
        key_of(version(Path("cap.xml"), sha256="00", files=(ModelFile("cap.bin", "02"),)), "openvino", "cpu"),
        key_of(base, "openvino", "cpu", "f32"),
        key_of(base, "openvino", "cpu"),
    ]
    assert None not in others
    assert len(set(others)) == len(others)
    assert key_of(version(Path("else.onnx"), sha256="00", confidence=0.9), "openvino", "auto") == others[-1]


def test_there_is_no_key_for_what_cannot_be_known(version: VersionOf) -> None:
    assert key_of(version(Path("cap.onnx"), sha256=""), "openvino", "cpu") is None
    assert key_of(version(Path("cap.xml"), sha256="00"), "openvino", "cpu") is None
    assert key_of(version(Path("cap.pt"), sha256="00"), "ultralytics", "cpu") is None
    assert key_of(version(Path("cap.onnx"), sha256="00"), "openvino", "gpu") is None


def test_dropped_pages_come_back_as_they_were(tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    (tmp_path / "file").write_bytes(content)
    mapped = MappedFile(tmp_path / "file")
    with mapped.dropping_pages():
        assert mapped.array.tobytes() == content
    assert _resident_kib(tmp_path / "file") == 0
    assert mapped.array.tobytes() == content
    assert _resident_kib(tmp_path / "file") >= 9 << 10


def _resident_kib(path: Path) -> int:
    lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
    return sum(
        int(next(line for line in lines if line.startswith("Rss:")).split()[1])
        for line in lines
        if line.endswith(str(path))
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_another_users_artifact_is_told_of_and_not_opened(artifacts: ArtifactStore) -> None:
    """As root, who lists the models of the service."""
    made = artifacts.add("key", "cap:n@3", 1 << 20, writer(b"content"))
    for path in (artifacts.folder, artifacts.folder / "key"):
        os.chown(path, 65534, 65534)
    assert artifacts.recorded("key") == made
    assert artifacts.find("key") is None
    assert artifacts.open("key") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_becomes_the_user_whose_folder_it_prepares_in(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 65534, 65534)
    code = "import sys; from pathlib import Path; from agent.inference.artifacts.artifact_store import become_owner\n"
    code += "become_owner(Path(sys.argv[1])); import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    command = [sys.executable, "-c", code, str(cache / "prepared" / "deep")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    assert said == "(65534, 65534, 65534) (65534, 65534, 65534) []\n"


@pytest.mark.parametrize(
    ("number", "is_disk"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EACCES, True), (errno.ENOMEM, False)]
)
def test_a_disk_that_keeps_no_artifact_is_told_from_a_lack_of_memory(  # noqa: PLR0913 - fixtures
    version: VersionOf,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    *,
    is_disk: bool,
) -> None:
    path = tiny_model(tmp_path / "tiny.onnx")
    entry = version(path, backend="openvino", sha256=file_sha256(path))

    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(ArtifactStore, "add", refuse)
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache")), lambda _: None)
    assert (outcome.result, outcome.reason, outcome.is_of_disk) == ("failed", None, is_disk)


def test_a_folder_of_another_user_is_told_with_the_cure(
    version: VersionOf, tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_model(tmp_path / "tiny.onnx")
    entry = version(path, backend="openvino", sha256=file_sha256(path))

    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(ArtifactStore, "add", refuse)
    outcome = prepare(Request(entry, "cpu", str(tmp_path / "cache")), lambda _: None)
    assert (outcome.result, outcome.reason) == ("failed", None)
    assert f"`sudo chown -R {os.geteuid()}:{os.getegid()} {tmp_path}/cache/prepared`" in outcome.detail
