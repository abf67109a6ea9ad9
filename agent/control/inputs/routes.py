"""Routes from topics to commands."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from agent.control.inputs.operator_commands import VERBS
from agent.control.plant import Plant, Read
from agent.messages.topics import DEVICE_COMMANDS, LINE_COMMANDS, DeviceCommand, LineCommand, of_line

Kind = Literal[LineCommand, DeviceCommand, "cmd"]
RETAINABLE: Final[frozenset[Kind]] = frozenset({"product/set", "model/set", *DEVICE_COMMANDS})


@dataclass(frozen=True)
class Route:
    """The command that a topic carries."""

    kind: Kind
    name: str
    """The line's id, or the verb of `cmd`."""
    filter_: str
    """The subscription that delivers the topic."""
    read: Read | None = None


def filters(base: str, bound: Iterable[str] = ()) -> list[str]:
    """Return the topic filters to subscribe to after each connect; `bound` are the bindings' topics."""
    lines = [f"{base}/{of_line('+', kind)}" for kind in LINE_COMMANDS]
    device = [f"{base}/{kind}" for kind in DEVICE_COMMANDS]
    return [*lines, *device, f"{base}/cmd/+", *dict.fromkeys(bound)]


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
    for kind in LINE_COMMANDS:
        if first == "line" and verb == kind:
            return Route(kind, name, f"{start}{of_line('+', kind)}")
    for device_kind in DEVICE_COMMANDS:
        if topic == start + device_kind:
            return Route(device_kind, "", topic)
    return Route("cmd", rest, f"{plant.base}/cmd/+") if first == "cmd" and "/" not in rest else None
