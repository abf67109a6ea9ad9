"""The parts that the routes of console and gateway are given."""

from dataclasses import dataclass

from agent.messages.web.control import WebSetup
from agent.web.serving.control_link import ControlLink
from agent.web.serving.documents import DocumentStore


@dataclass(frozen=True)
class WebParts:
    """Parts of the web process; everything here belongs to its event loop."""

    setup: WebSetup
    documents: DocumentStore
    """The device's states and events, as they are published over MQTT."""
    control: ControlLink
    """Commands to control, and its answers."""
