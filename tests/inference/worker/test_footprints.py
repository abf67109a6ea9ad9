"""Measured bytes are remembered, and a spoilt file costs nothing but the memory."""

from pathlib import Path

import pytest

from agent.inference.footprints import Footprints


def test_a_guess_is_high_until_something_was_measured(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path)
    footprints.read()
    assert footprints.measured_bytes("a") is None
    assert footprints.predicted_bytes("a", 10) == 60
    footprints.remember("a", 41)
    assert footprints.predicted_bytes("a", 10) == 41


def test_measures_outlive_a_restart(tmp_path: Path) -> None:
    Footprints(tmp_path / "new").remember("a", 41)
    again = Footprints(tmp_path / "new")
    again.read()
    assert again.measured_bytes("a") == 41
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["footprints.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": "x"}', b"\xff"])
def test_a_spoilt_file_is_measured_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "footprints.json").write_bytes(content)
    footprints = Footprints(tmp_path)
    footprints.read()
    assert footprints.measured_bytes("a") is None
    footprints.remember("a", 5)
    again = Footprints(tmp_path)
    again.read()
    assert again.measured_bytes("a") == 5


def test_nonsense_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "footprints.json").write_bytes(b'{"a": -5, "b": 7}')
    footprints = Footprints(tmp_path)
    footprints.read()
    assert (footprints.predicted_bytes("a", 10), footprints.predicted_bytes("b", 10)) == (60, 7)


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    footprints = Footprints(tmp_path / "file" / "folder")
    footprints.remember("a", 5)
    assert footprints.measured_bytes("a") == 5


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path)
    for number in range(600):
        footprints.remember(str(number), 1 + number)
    assert footprints.measured_bytes("0") is None
    assert footprints.measured_bytes("599") == 600
