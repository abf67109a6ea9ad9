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
