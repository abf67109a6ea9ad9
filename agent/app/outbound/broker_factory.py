"""Factory for the broker link and its publisher."""

from typing import Final

from agent.messages.topics import Topics
from agent.mqtt.endpoint.link_settings import LinkSettings, Will, tls_of
from agent.mqtt.link.link import Link
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind
from agent.mqtt.outbox.sqlite_store import Bounds
from agent.mqtt.publishing.tapped_publisher import TappedPublisher
from agent.processes.loop import Loop
from agent.settings import Settings

OUTBOX_FILE: Final = "outbox.db"
_SESSION_S: Final = 120
"""Session expiry: commands from a short outage are still meant, older ones would surprise."""


def make_link(settings: Settings, topics: Topics, loop: Loop) -> Link:
    """Build the link, not yet started. Raises MistakeError for a private key with a passphrase."""
    mqtt = settings.mqtt
    link_settings = LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=f"changeover-{settings.device.id}",
        tls=tls_of(mqtt),
        username=mqtt.username or None,
        password_file=str(mqtt.password_file) if mqtt.password_file is not None else None,
        protocol=mqtt.protocol,
        keepalive_s=mqtt.keepalive_s,
        session_s=_SESSION_S,
        will=Will(topics.status, b"offline"),
        ping_topic=topics.ping,
    )
    return Link(link_settings, loop, loop.put)


def make_publisher(settings: Settings, link: Link, topics: Topics) -> TappedPublisher:
    """Build the publisher over `link`, with its outbox in the state directory."""
    outbox = settings.outbox
    at_once = frozenset({Kind.SUMMARY, Kind.DETECTION} if outbox.detections == "always" else ())
    kept = Outbox(Bounds(outbox.max_bytes, outbox.max_age), settings.device.state_dir / OUTBOX_FILE, at_once=at_once)
    return TappedPublisher(link, topics, kept, outbox.detections)
