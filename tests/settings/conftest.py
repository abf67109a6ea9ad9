"""A configuration in a folder of its own, good unless a test says otherwise."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.settings import Mistake, Settings, SettingsError, load

GOOD = """
[[stream]]
id = "cam-1"
line = "line-1"
source = "clips/belt.avi"

[line.line-1]
default = "cap-check"
"""

Loader = Callable[..., Settings]
Failing = Callable[..., list[Mistake]]


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    def load_text(text: str, **environ: str) -> Settings:
        file = tmp_path / "changeover.toml"
        file.write_text(text, encoding="utf-8")
        return load(file, environ)

    return load_text


@pytest.fixture
def mistakes(loaded: Loader) -> Failing:
    def mistakes_of(text: str, **environ: str) -> list[Mistake]:
        with pytest.raises(SettingsError) as caught:
            loaded(text, **environ)
        return list(caught.value.mistakes)

    return mistakes_of
