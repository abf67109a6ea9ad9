"""Configuration and identity that all parts of one agent share."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from agent.messages.topics import Topics
from agent.models.catalog import Catalog
from agent.settings import Settings


@dataclass(frozen=True)
class Context:
    """Configuration, catalog and identity of one run of the agent."""

    settings: Settings
    catalog: Catalog
    boot: str = field(default_factory=lambda: secrets.token_hex(4))
    """Random id of this run of the agent, so that counters of two runs can be told apart."""
    reread: Callable[[], Settings] | None = None
    """Reads the configuration again (raises MistakeError); None where there is no file to read."""

    @cached_property
    def configuration_hash(self) -> str:
        """The settings' hash, computed once, because each `meta` tells it."""
        return self.settings.configuration_hash

    @property
    def topics(self) -> Topics:
        """The device's topics."""
        return Topics(self.settings.mqtt.root, self.settings.device.id)
