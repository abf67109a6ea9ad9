"""Fixtures of the tests of supply."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fetches import Fetches
from support.file_server import FileServer, file_server


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def fetches(tmp_path: Path) -> Fetches:
    return Fetches(tmp_path)
