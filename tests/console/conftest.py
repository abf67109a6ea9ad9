"""A console for each test, and a browser of it that nobody has logged in with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console_here import ConsoleHere, TestClient


@pytest.fixture
def here(tmp_path: Path) -> ConsoleHere:
    return ConsoleHere(tmp_path)


@pytest.fixture
def client(here: ConsoleHere) -> Iterator[TestClient]:
    with here.client() as client:
        yield client
