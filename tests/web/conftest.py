"""A running agent with a gateway."""

from collections.abc import Iterator

import pytest
from support.gateway_plant import GatewayPlant, own_gateway_plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPlant]:
    """One agent for all tests of a module, which leave it running."""
    with own_gateway_plant(tmp_path_factory) as made:
        yield made
