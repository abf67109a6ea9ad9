"""What the parts of one running agent share: who it is, where it speaks, and since when."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.models.catalog import Catalog
from agent.mqtt.topics import Topics
from agent.settings import Settings


@dataclass(frozen=True)
class Context:
    """One boot of one device. `boot` is drawn anew at each start, so that counters can be told apart.

    `reread` reads the configuration again (it raises MistakeError), where there is a file to read.
    """

    settings: Settings
    catalog: Catalog
    boot: str = field(default_factory=lambda: secrets.token_hex(4))
    reread: Callable[[], Settings] | None = None

    @property
    def topics(self) -> Topics:
        """Return the device's topics."""
        return Topics(self.settings.mqtt.root, self.settings.device.id)
