"""Measured bytes are remembered, and a spoilt file costs nothing but the memory."""

import os
from pathlib import Path

import pytest

from agent.inference.memory.footprints import Footprint, Footprints, guess_artifact_bytes, guess_source_bytes


def test_a_guess_is_high_until_something_was_measured(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path)
    footprints.read()
    assert footprints.measured_bytes("a") is None
    assert guess_source_bytes(10) == 60
    footprints.remember("a", Footprint(41, load_ms=5.0, warmup_ms=2.0))
    assert footprints.measured_bytes("a") == 41
    assert footprints.known("a") == Footprint(41, 5.0, 2.0)


@pytest.mark.parametrize(("file_mib", "taken_mib"), [(5.5, 33), (18.5, 54), (39, 142), (109, 320)])
def test_a_guess_of_an_artifact_is_high_and_not_twice_too_high(file_mib: float, taken_mib: float) -> None:
    """Of yolo11 n, s, m and x at 640 x 640, as they were measured in float32."""
    guess_mib = guess_artifact_bytes(int(file_mib * 2**20), (640, 640)) / 2**20
    assert taken_mib < guess_mib < 2 * taken_mib


def test_a_release_tells_what_was_the_models_own(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path)
    footprints.remember("a", Footprint(81 << 20))
    footprints.came_back("a", 80 << 20)
    assert footprints.known("a") == Footprint(81 << 20, is_final=True)
    footprints.came_back("a", 54 << 20)
    assert footprints.known("a") == Footprint(54 << 20, is_final=True)
    footprints.came_back("a", 53 << 20)
    footprints.came_back("a", 90 << 20)
    footprints.came_back("a", -5)
    assert footprints.measured_bytes("a") == 54 << 20
    footprints.came_back("a", 90 << 20, 55 << 20)
    assert footprints.measured_bytes("a") == 54 << 20, "what came back beside what it brought is another's"
    footprints.came_back("a", 90 << 20, 70 << 20)
    assert footprints.measured_bytes("a") == 70 << 20, "it was measured too low once"
    footprints.came_back("a", 68 << 20, 90 << 20)
    assert footprints.measured_bytes("a") == 70 << 20, "what it brought and left is its runtime's"
    footprints.came_back("unknown", 5)
    assert footprints.known("unknown") is None


def test_measures_outlive_a_restart(tmp_path: Path) -> None:
    Footprints(tmp_path / "new").remember("a", Footprint(41))
    again = Footprints(tmp_path / "new")
    again.read()
    assert again.measured_bytes("a") == 41
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["footprints.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 5}', b"\xff"])
def test_a_spoilt_file_is_measured_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "footprints.json").write_bytes(content)
    footprints = Footprints(tmp_path)
    footprints.read()
    assert footprints.measured_bytes("a") is None
    footprints.remember("a", Footprint(5))
    again = Footprints(tmp_path)
    again.read()
    assert again.measured_bytes("a") == 5


def test_nonsense_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "footprints.json").write_bytes(b'{"a": {"bytes": -5}, "b": {"bytes": 7}}')
    footprints = Footprints(tmp_path)
    footprints.read()
    assert (footprints.measured_bytes("a"), footprints.measured_bytes("b")) == (None, 7)


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    footprints = Footprints(tmp_path / "file" / "folder")
    footprints.remember("a", Footprint(5))
    assert footprints.measured_bytes("a") == 5


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path)
    for number in range(600):
        footprints.remember(str(number), Footprint(1 + number))
    assert footprints.measured_bytes("0") is None
    assert footprints.measured_bytes("599") == 600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start for another user")
def test_what_root_measures_is_the_services_to_read(tmp_path: Path) -> None:
    service = 12345
    os.chown(tmp_path, service, service)
    Footprints(tmp_path).remember("a", Footprint(5))
    assert (tmp_path / "footprints.json").stat().st_uid == service


def test_two_workers_keep_what_each_of_them_measured(tmp_path: Path) -> None:
    one, other = Footprints(tmp_path), Footprints(tmp_path)
    for footprints in (one, other):
        footprints.read()
    one.remember("a", Footprint(41))
    other.remember("b", Footprint(42))
    one.remember("c", Footprint(43))
    again = Footprints(tmp_path)
    again.read()
    assert [again.measured_bytes(key) for key in "abc"] == [41, 42, 43]
    assert one.measured_bytes("b") == 42
