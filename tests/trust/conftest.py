"""The key that the tests of trust sign with."""

import pytest

from agent.trust.minisign import SecretKey


@pytest.fixture(scope="module")
def key() -> SecretKey:
    return SecretKey.make()
