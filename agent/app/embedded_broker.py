"""Embedded broker for trials without an external one."""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.mqtt.embedded import EmbeddedBroker
from agent.settings import Settings


@contextmanager
def embedded_broker(port: int) -> Iterator[EmbeddedBroker]:
    """Run the block with an embedded broker on the loopback address; port 0 chooses a free port.

    Raises NotStartedError where it cannot start, for example because the port is taken.
    """
    broker = EmbeddedBroker(port)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def at_port(settings: Settings, port: int) -> Settings:
    """Return the settings with the embedded broker at `port` as the broker to connect to."""
    mqtt = settings.mqtt.model_copy(update={"url": f"mqtt://127.0.0.1:{port}"})
    return settings.model_copy(update={"mqtt": mqtt})
