"""Builds the link to the broker and what speaks over it, from the settings."""

from typing import Final

from agent.mqtt.client import Link
from agent.mqtt.link_settings import LinkSettings, Tls, Will
from agent.mqtt.outbox import Outbox
from agent.mqtt.publisher import Publisher
from agent.mqtt.topics import Topics
from agent.processes.loop import Loop
from agent.settings import MqttSettings, Settings

_EVENT_BYTES: Final = 16 * 2**20
"""Events are small and few; days of them fit, beside the detections' `max_bytes`."""
_DETECTION_BYTES: Final = 64 * 2**20
"""Detections wait in memory in this version, so `[outbox] max_bytes` counts only up to here."""


def make_link(settings: Settings, topics: Topics, loop: Loop) -> Link:
    """Return the link, not yet started."""
    mqtt = settings.mqtt
    password = mqtt.password()
    link_settings = LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=f"changeover-{settings.device.id}",
        tls=_tls(mqtt),
        username=mqtt.username or None,
        password=password.encode() if password is not None else None,
        protocol=mqtt.protocol,
        keepalive_s=mqtt.keepalive_s,
        will=Will(topics.status, b"offline"),
        ping_topic=topics.ping,
    )
    return Link(link_settings, loop, loop.put)


def make_publisher(settings: Settings, link: Link, topics: Topics) -> Publisher:
    """Return what sends over `link`, with its outboxes."""
    outbox = settings.outbox
    events = Outbox(_EVENT_BYTES, outbox.max_age)
    detections = Outbox(min(outbox.max_bytes, _DETECTION_BYTES), outbox.max_age)
    return Publisher(link, topics, events, detections, keep_detections=outbox.detections != "never")


def _tls(mqtt: MqttSettings) -> Tls | None:
    if not mqtt.tls:
        return None
    files = (mqtt.ca_file, mqtt.cert_file, mqtt.key_file)
    return Tls(*(str(file) if file is not None else None for file in files))
