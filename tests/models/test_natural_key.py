"""Versions and pictures in the order in which people count."""

import pytest

from agent.messages.references import natural_key


@pytest.mark.parametrize(
    "ordered",
    [
        ["1", "2", "10"],
        ["1.9", "1.10", "2"],
        ["a2", "a10", "b1"],
        ["007", "8"],
        ["", "1"],
        ["9", "9a"],
        ["v2-a", "v10"],
    ],
)
def test_numbers_inside_a_text_count_as_numbers(ordered: list[str]) -> None:
    backwards = [*reversed(ordered)]
    assert sorted(backwards, key=natural_key) == ordered
