"""A topic filter with its fallback."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TopicFilter:
    """A topic filter to subscribe to."""

    filter_: str
    instead: tuple[str, ...] = ()
    """Exact topics for a broker that refuses wildcards."""
    is_passing: bool = False
    """Unsubscribed once its retained messages were received."""

    @property
    def has_wildcard(self) -> bool:
        """True for a filter that a broker without wildcard subscriptions refuses."""
        return "+" in self.filter_ or "#" in self.filter_
