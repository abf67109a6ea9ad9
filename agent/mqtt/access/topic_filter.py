"""A topic filter that the agent wants to hear, and what to do where the broker does not grant it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TopicFilter:
    """`instead`: exact topics, where no wildcard is taken. `is_passing`: left once what is retained was seen."""

    filter_: str
    instead: tuple[str, ...] = ()
    is_passing: bool = False

    @property
    def has_wildcard(self) -> bool:
        """Whether a broker without wildcard subscriptions refuses it."""
        return "+" in self.filter_ or "#" in self.filter_
