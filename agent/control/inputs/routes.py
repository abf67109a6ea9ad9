"""Routes from topics to commands."""

from dataclasses import dataclass
from typing import Final, Literal

from agent.control.inputs.operator_commands import VERBS
from agent.control.plant import Plant, Read

Kind = Literal["product/set", "model/set", "prepare", "schedule/set", "bandwidth/set", "cmd"]
_OF_A_LINE: Final[tuple[Kind, ...]] = ("product/set", "model/set", "prepare")
_OF_THE_DEVICE: Final[tuple[Kind, ...]] = ("schedule/set", "bandwidth/set")
RETAINABLE: Final[frozenset[Kind]] = frozenset({"product/set", "model/set", "schedule/set", "bandwidth/set"})


@dataclass(frozen=True)
class Route:
    """The command that a topic carries."""

    kind: Kind
    name: str
    """The line's id, or the verb of `cmd`."""
    filter_: str
    """The subscription that delivers the topic."""
    read: Read | None = None


def filters(plant: Plant) -> list[str]:
    """Return the topic filters to subscribe to after each connect."""
    lines = [f"{plant.base}/line/+/{kind}" for kind in _OF_A_LINE]
    device = [f"{plant.base}/{kind}" for kind in _OF_THE_DEVICE]
    bound = dict.fromkeys(binding.topic for binding in plant.bindings)
    return [*lines, *device, f"{plant.base}/cmd/+", *bound]


def exact(plant: Plant, filter_: str) -> tuple[str, ...]:
    """Return the topics that a filter stands for, for a broker without wildcards."""
    start, wildcard, end = filter_.partition("+")
    if not wildcard:
        return ()
    names = VERBS if filter_ == f"{plant.base}/cmd/+" else tuple(plant.lines)
    return tuple(f"{start}{name}{end}" for name in names)


def routes(plant: Plant, topic: str) -> list[Route]:
    """Return the routes of a topic: its own, and one for each line that is bound to it."""
    found = [Route("product/set", one.line, topic, one.read) for one in plant.bindings if one.topic == topic]
    own = _own(plant, topic)
    return [own, *found] if own is not None else found


def _own(plant: Plant, topic: str) -> Route | None:
    start = f"{plant.base}/"
    if not topic.startswith(start):
        return None
    first, _, rest = topic[len(start) :].partition("/")
    name, _, verb = rest.partition("/")
    for kind in _OF_A_LINE:
        if first == "line" and verb == kind:
            return Route(kind, name, f"{plant.base}/line/+/{kind}")
    for kind in _OF_THE_DEVICE:
        if topic == start + kind:
            return Route(kind, "", topic)
    return Route("cmd", rest, f"{plant.base}/cmd/+") if first == "cmd" and "/" not in rest else None
