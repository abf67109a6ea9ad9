"""Topic filter, with the exact topics to use instead of a wildcard."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TopicFilter:
    """A topic filter to subscribe to."""

    filter_: str
    instead: tuple[str, ...] = ()
    """Exact topics for a broker that refuses wildcards."""
    is_passing: bool = False
    """True: the agent unsubscribes once it has received the retained messages."""

    @property
    def has_wildcard(self) -> bool:
        """True for a filter that a broker without wildcard subscriptions refuses."""
        return "+" in self.filter_ or "#" in self.filter_
