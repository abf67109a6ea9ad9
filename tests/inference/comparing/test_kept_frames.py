"""The most different frames of a comparison as pictures: what is kept, and what is deleted."""

from pathlib import Path

import numpy as np
import pytest

from agent.inference.comparing.kept_frames import FrameKeeper
from agent.inference.comparing.matching import FrameAnswer
from agent.messages.canary import KEPT_OF, KeptFrame

CANDIDATE = "cap-check:n@4"
LIMIT_BYTES = 1 << 20
AT = "2026-01-01T00:00:00.000Z"


def keeper(folder: Path, limit_bytes: int = LIMIT_BYTES, of: str = CANDIDATE) -> FrameKeeper:
    """Return a keeper that has started."""
    made = FrameKeeper(folder, limit_bytes, of)
    made.start()
    return made


def offer(to: FrameKeeper, distance: float, number: int = 1, *, size: int = 16) -> None:
    """Offer a picture of noise, so that its bytes grow with its size."""
    pixels = np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)
    answer = FrameAnswer([])
    to.offer(distance, KeptFrame("cam-1", number, AT, size, size), pixels, (answer, answer))


def kept(folder: Path) -> list[str]:
    """Return the names of the files other than the note, sorted."""
    return sorted(file.name for file in folder.iterdir() if file.name != KEPT_OF)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "comparisons" / "line-1"


def test_a_frame_is_a_picture_beside_both_answers(folder: Path) -> None:
    offer(keeper(folder), 0.5, 7)
    assert kept(folder) == ["000000500-cam-1-7.jpg", "000000500-cam-1-7.json"]


def test_the_same_comparison_keeps_what_it_has(folder: Path) -> None:
    offer(keeper(folder), 0.5)
    before = kept(folder)
    keeper(folder)
    assert kept(folder) == before


def test_another_comparison_deletes_what_the_last_one_kept(folder: Path) -> None:
    offer(keeper(folder), 0.5)
    keeper(folder, of="cap-check:n@5")
    assert kept(folder) == []
    assert (folder / KEPT_OF).read_text() == "cap-check:n@5"


@pytest.mark.parametrize("of", [CANDIDATE, "cap-check:n@5"])
def test_a_comparison_that_keeps_none_deletes_what_is_there(folder: Path, of: str) -> None:
    offer(keeper(folder), 0.5)
    without = keeper(folder, 0, of)
    offer(without, 0.9)
    assert list(folder.iterdir()) == []


def test_a_comparison_that_keeps_none_makes_no_folder(folder: Path) -> None:
    offer(keeper(folder, 0), 0.9)
    assert not folder.exists()


@pytest.mark.parametrize("note", [b"\xff\xfe\x00", b"", b"cap-check:n@3"])
def test_a_note_that_is_none_of_this_comparison_is_no_error(folder: Path, note: bytes) -> None:
    offer(keeper(folder), 0.5)
    (folder / KEPT_OF).write_bytes(note)
    keeper(folder)
    assert kept(folder) == []
    assert (folder / KEPT_OF).read_text() == CANDIDATE


def test_a_frame_that_does_not_fit_displaces_none(folder: Path) -> None:
    keeps = keeper(folder, 8192)
    offer(keeps, 0.1, 1)
    offer(keeps, 0.2, 2)
    before = kept(folder)
    offer(keeps, 0.9, 3, size=256)
    assert kept(folder) == before


def test_a_frame_that_needs_the_place_of_more_different_ones_displaces_none(folder: Path) -> None:
    keeps = keeper(folder, 7000)
    offer(keeps, 0.1, 1)
    offer(keeps, 0.9, 2, size=64)
    before = kept(folder)
    offer(keeps, 0.5, 3, size=64)
    assert kept(folder) == before


def test_a_more_different_frame_displaces_the_least_different_ones(folder: Path) -> None:
    keeps = keeper(folder)
    for number in range(40):
        offer(keeps, number / 100, number)
    names = {name.partition(".")[0] for name in kept(folder)}
    assert names == {f"{number * 10:09d}-cam-1-{number}" for number in range(8, 40)}


@pytest.mark.parametrize("suffix", [".jpg", ".json"])
def test_half_a_frame_is_deleted_at_the_start(folder: Path, suffix: str) -> None:
    offer(keeper(folder), 0.5)
    (folder / f"000000900-cam-1-9{suffix}").write_bytes(b"half")
    keeper(folder)
    assert kept(folder) == ["000000500-cam-1-1.jpg", "000000500-cam-1-1.json"]


def test_a_frame_whose_answers_cannot_be_written_leaves_no_picture(folder: Path) -> None:
    keeps = keeper(folder)
    (folder / "000000500-cam-1-1.json").mkdir()
    offer(keeps, 0.5)
    assert kept(folder) == ["000000500-cam-1-1.json"]


def test_a_lowered_limit_holds_from_the_start(folder: Path) -> None:
    keeps = keeper(folder)
    for number in range(1, 5):
        offer(keeps, number / 10, number, size=48)
    most = sum((folder / name).stat().st_size for name in kept(folder))
    keeper(folder, most // 2)
    assert sum((folder / name).stat().st_size for name in kept(folder)) <= most // 2
    assert kept(folder)[-1] == "000000400-cam-1-4.json"


def test_a_folder_among_the_pictures_stays_and_hinders_nothing(folder: Path) -> None:
    for number in range(1, 5):
        (folder / f"{number}00000000-cam-1-0.jpg").mkdir(parents=True)
        offer(keeper(folder), 0.5, number)
    keeper(folder, of="cap-check:n@5")
    assert not [one for one in folder.iterdir() if one.is_file() and one.name != KEPT_OF]
    assert len(kept(folder)) == 4


def test_nothing_is_kept_beside_pictures_that_cannot_be_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(keeper(folder), 0.5)
    unlink = Path.unlink

    def refuse(path: Path, **options: bool) -> None:
        if path.suffix == ".jpg":
            raise PermissionError(path)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    other = keeper(folder, of="cap-check:n@5")
    offer(other, 0.9, 2)
    assert kept(folder) == ["000000500-cam-1-1.jpg"]
    assert not (folder / KEPT_OF).exists()


def test_the_same_frame_offered_again_is_counted_once(folder: Path) -> None:
    keeps = keeper(folder, 4096)
    for _ in range(20):
        offer(keeps, 0.5)
    offer(keeps, 0.4, 2)
    assert len(kept(folder)) == 4
