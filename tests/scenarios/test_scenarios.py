"""Each folder beside this file is one story of a plant, played through the one pure function."""

from pathlib import Path

import pytest
from support.scenario import Play
from support.scenario_files import differences, read_lines

HERE = Path(__file__).parent
FOLDERS = sorted(folder.name for folder in HERE.iterdir() if (folder / "events.jsonl").exists())


@pytest.mark.parametrize("name", FOLDERS)
def test_scenario(name: str) -> None:
    folder = HERE / name
    published = Play(folder).run(read_lines(folder / "events.jsonl"))
    found = differences(published, read_lines(folder / "expected.jsonl"))
    assert found is None, found


def test_there_are_enough_of_them_and_none_expects_nothing() -> None:
    assert len(FOLDERS) >= 25
    assert all(read_lines(HERE / name / "expected.jsonl") for name in FOLDERS)


def test_a_scenario_that_expects_something_else_fails() -> None:
    folder = HERE / FOLDERS[0]
    published = Play(folder).run(read_lines(folder / "events.jsonl"))
    expected = read_lines(folder / "expected.jsonl")
    assert differences(published, expected[:-1]) is not None
    assert differences(published, [*expected, expected[-1]]) is not None
    assert differences([*published[1:], published[0]], [one | {"t": 1e9} for one in expected]) is not None
