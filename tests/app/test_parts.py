"""The small parts of control's composition root, by themselves."""

import json

import pytest

from agent.app.clock import Clock
from agent.app.configuration.json_path import reader


def test_the_wall_clock_is_asked_about_once_a_second() -> None:
    now_s = 100.0
    answers = iter([False, True, True])
    clock = Clock(lambda: next(answers), lambda: now_s)
    assert not clock.now().clock_synced
    now_s += 0.9
    assert not clock.now().clock_synced
    now_s += 0.2
    assert clock.now().clock_synced
    assert clock.now().monotonic_s == now_s


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("$", [1, 2]),
        ("$.recipe.id", {"recipe": {"id": [1, 2]}}),
        ("$.recipe-id", {"recipe-id": [1, 2]}),
        ("$.order no.1st", {"order no": {"1st": [1, 2]}}),
        ("$..id", {"a": [{"b": {"id": [1, 2]}}]}),
        ("$.lines[1].*", {"lines": [0, {"x": [1, 2]}]}),
        ("$['a.b']['c']", {"a.b": {"c": [1, 2]}}),
        ("$[?@.name=='a.b'].id", [{"name": "a.b", "id": [1, 2]}]),
    ],
)
def test_a_path_finds_its_value_and_nothing_elsewhere(path: str, document: object) -> None:
    assert reader(path)(document) == [1, 2]
    if path != "$":
        with pytest.raises(LookupError):
            reader(path)({"else": 1})


@pytest.mark.parametrize("depth", [2, 100, 400, 900])
def test_a_document_of_any_depth_has_a_value_at_a_path_or_none(depth: int) -> None:
    lists, objects = "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth
    for path, text, found in (("$[0]", lists, list), ("$.*", lists, list), ("$.*", objects, dict)):
        assert isinstance(reader(path)(json.loads(text)), found)
    nowhere = [("$[0]", objects), *((path, text) for path in ("$..id", "$.recipe.id") for text in (lists, objects))]
    for path, text in nowhere:
        with pytest.raises(LookupError, match="nothing at"):
            reader(path)(json.loads(text))
