"""A running agent with a gateway."""

from collections.abc import Iterator

import pytest
from support.brokers import Mosquitto
from support.gateway_plant import GatewayPlant, gateway_plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPlant]:
    """One agent for all tests of a module, which leave it running."""
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), persistence=False, more=())
    broker.start()
    try:
        with gateway_plant(broker, tmp_path_factory.mktemp("agent")) as made:
            yield made
    finally:
        broker.kill()
