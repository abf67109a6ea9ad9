"""The log level: configured, changed for a while, and back by itself."""

import logging
from collections.abc import Iterator

import pytest

from agent.app.observability.log_level import LogLevels


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    loggers = (logging.getLogger(), logging.getLogger("agent"))
    before = [one.level for one in loggers]
    yield
    for one, level in zip(loggers, before, strict=True):
        one.setLevel(level)


def effective() -> tuple[int, int]:
    return logging.getLogger("agent.app").getEffectiveLevel(), logging.getLogger("paho").getEffectiveLevel()


def test_a_level_that_was_asked_for_ends_by_itself() -> None:
    told: list[str] = []
    levels = LogLevels("info", told.append)
    levels.set_for("debug", 600, 1000.0)
    assert (levels.level, told) == ("debug", ["debug"])
    assert effective() == (logging.DEBUG, logging.INFO), "libraries' debug lines are not ours"
    levels.tick(1599.9)
    assert levels.level == "debug"
    levels.tick(1600.0)
    levels.tick(1700.0)
    assert (levels.level, told) == ("info", ["debug", "info"])
    assert effective() == (logging.INFO, logging.INFO)


def test_a_newer_wish_replaces_the_older_and_its_time() -> None:
    levels = LogLevels("warning", lambda _level: None)
    levels.set_for("debug", 600, 1000.0)
    levels.set_for("info", 10, 1001.0)
    levels.tick(1011.0)
    assert levels.level == "warning"
    assert effective() == (logging.WARNING, logging.WARNING)


def test_a_reload_holds_at_once_or_after_what_was_asked_for() -> None:
    levels = LogLevels("info", lambda _level: None)
    levels.configure("warning")
    seen: list[str] = [levels.level]
    levels.set_for("debug", 10, 1000.0)
    levels.configure("info")
    seen.append(levels.level)
    levels.tick(1010.0)
    seen.append(levels.level)
    assert seen == ["warning", "debug", "info"]
