"""Clearing of what a device left retained on its broker, for a device that is taken away."""

import shlex
from collections.abc import Iterable
from typing import Final

from agent.messages.errors import MistakeError, TransientError
from agent.messages.topics import Topics
from agent.mqtt.blocking_client import BlockingClient, BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import for_client
from agent.settings import MqttSettings, Settings

_RETAINED_S: Final = 1.5
"""Time to wait for retained messages, which come at once after a subscription."""


def clear_of_device(settings: Settings) -> str:
    """Clear the retained topics of the configured device; return what was done. Raises as `clear_retained` does."""
    topics = Topics(settings.mqtt.root, settings.device.id)
    count = clear_retained(settings.mqtt, topics, settings.line, [stream.id for stream in settings.stream])
    return f"cleared {count} retained topics below {topics.base}"


def clear_retained(mqtt: MqttSettings, topics: Topics, lines: Iterable[str], streams: Iterable[str]) -> int:
    """Clear the device's own retained topics; return how many there were. Commands that a PLC retained stay.

    Raises MistakeError while the device is online. Raises TransientError where the broker cannot be reached; its text
    has a command that clears them by hand.
    """
    if mqtt.embedded:
        return 0  # because the embedded broker keeps nothing
    try:
        with connected(for_client(mqtt)) as peer:
            return _clear(peer, topics, topics.published(lines, streams))
    except BlockingClientError as error:
        raise TransientError(f"{error}; where the broker can be reached: {_by_hand(mqtt, topics)}") from None


def _clear(peer: BlockingClient, topics: Topics, known: list[str]) -> int:
    peer.subscribe([f"{topics.base}/#"])
    found = {one.topic: one.payload for one in peer.arrivals(_RETAINED_S) if one.retained and one.payload}
    if found.get(topics.status) == b"online":
        raise MistakeError(f"{topics.base} is online: stop it first (sudo systemctl stop changeover)")
    own = {topic for topic in found if topics.is_published(topic)}
    # the known ones too, because the broker's rules may hide from a device what it published
    for topic in sorted({*own, *known} - {topics.status}):
        peer.publish(topic, b"", retain=True)
    peer.publish(topics.status, b"", retain=True)
    return len(own)


def _by_hand(mqtt: MqttSettings, topics: Topics) -> str:
    words = ["mosquitto_sub", "-h", mqtt.host, "-p", str(mqtt.port), "-t", f"{topics.base}/#", "--remove-retained"]
    return shlex.join([*words, "-W", "3"])
