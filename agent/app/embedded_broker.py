"""A broker of the agent's own, for a trial without one."""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.mqtt.embedded import EmbeddedBroker
from agent.settings import Settings


@contextmanager
def embedded_broker(port: int) -> Iterator[EmbeddedBroker]:
    """Run the embedded broker on loopback while the context lasts; its `port` is a free one for 0.

    Raises NotStartedError where it cannot start, for example because the port is taken.
    """
    broker = EmbeddedBroker(port)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def at_port(settings: Settings, port: int) -> Settings:
    """Return the settings with the embedded broker's address in them."""
    mqtt = settings.mqtt.model_copy(update={"url": f"mqtt://127.0.0.1:{port}"})
    return settings.model_copy(update={"mqtt": mqtt})
