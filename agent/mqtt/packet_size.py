"""Size of a PUBLISH packet on the wire."""

from typing import Final

from agent.mqtt.endpoint.link_settings import ProtocolVersion
from agent.mqtt.message import OutgoingMessage

_SEVEN_BITS: Final = 128


def packet_bytes(message: OutgoingMessage, protocol: ProtocolVersion) -> int:
    """Return the length of an encoded PUBLISH (MQTT 5.0, section 3.3) with its fixed header."""
    remaining = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + len(message.payload)
    if protocol == "5":
        properties = 0 if message.correlation is None else 3 + len(message.correlation)
        remaining += _variable_bytes(properties) + properties
    return 1 + _variable_bytes(remaining) + remaining


def _variable_bytes(number: int) -> int:
    count = 1
    while number >= _SEVEN_BITS:
        number //= _SEVEN_BITS
        count += 1
    return count
