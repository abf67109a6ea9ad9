"""Groups in the configuration: those that are named are there, and those that are there are used."""

from typing import Any

import pytest

from agent.settings.crosschecks import crosschecks

STREAMS = [{"id": "cam-1", "line": "line-1"}]


def found(raw: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    return [(one.path, one.expected) for one in crosschecks({"stream": STREAMS, **raw}) if "group" in one.path]


def plant(group: str | None = None, client: str | None = None, **groups: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of one line and one client of requests, each in a group or in none that is named."""
    line = {"default": "cap-check"} | ({"group": group} if group is not None else {})
    clients = [{"name": "mes"} | ({"group": client} if client else {})] if client is not None else []
    return {"line": {"line-1": line}, "web": {"client": clients}, "group": groups}


@pytest.mark.parametrize(
    "raw",
    [
        plant(),
        plant("default", ""),
        plant(default={}),
        plant("press", press={}),
        plant("press", "press", press={}),
        plant("", "mes", mes={}) | {"line": {"line-1": {"default": "cap-check"}}},
        plant("press", "", press={}, default={}),
    ],
)
def test_what_names_a_group_with_a_worker_is_right(raw: dict[str, Any]) -> None:
    assert found(raw) == []


def test_a_line_in_a_group_that_is_not_there() -> None:
    assert found(plant("press")) == [(("line", "line-1", "group"), "a configured group (default)")]


def test_a_client_in_a_group_that_is_not_there() -> None:
    assert found(plant(client="press")) == [(("web", "client", 0, "group"), "a configured group (default)")]


def test_a_client_that_names_none_has_a_worker_only_where_default_has_one() -> None:
    assert found(plant("press", "", press={})) == [(("web", "client", 0, "group"), "a configured group (press)")]


def test_a_group_of_nobody() -> None:
    assert found(plant(press={})) == [(("group", "press"), 'at least one [line.ID] with group = "press"')]
