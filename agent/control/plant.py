"""The configured world, as decisions see it: lines, streams, bindings, rules, and questions to the catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.messages.references import ModelReference, ModelVersion
from agent.settings import BandwidthRule, ScheduleRule

Read = Callable[[object], object]
"""From a parsed JSON document to the one value in it; raises LookupError where there is none, or more than one."""


@dataclass(frozen=True)
class LineRules:
    """What the configuration says of a line; products map a PLC's code to a model reference."""

    default: ModelReference
    variant: str
    products: Mapping[str, ModelReference]
    changeover_timeout_s: float
    dwell_s: float = 2.0
    prepare_s: float = 1800.0
    bandwidth: tuple[BandwidthRule, ...] = ()


@dataclass(frozen=True)
class Binding:
    """A topic of the PLC's own that carries a line's product; without `read` the payload itself is the value."""

    topic: str
    line: str
    read: Read | None = None


def _no_variants(_name: str) -> tuple[str, ...]:
    return ()


def _no_rank(_name: str, _variant: str) -> float:
    return float("inf")


@dataclass(frozen=True)
class Plant:
    """The configured world.

    `find(reference, variant)` asks the catalog; `variant` is for a reference without one. `variants(name)` are those of
    a model, the smallest first; `rank(name, variant)` is where a variant stands among them, also one that the model
    does not come in. `unsafe` are the catalog's versions that may be opened without walls.
    """

    base: str
    boot: str
    lines: Mapping[str, LineRules]
    streams: Mapping[str, str]
    find: Callable[[ModelReference, str], ModelVersion | None]
    variants: Callable[[str], tuple[str, ...]] = _no_variants
    rank: Callable[[str, str], float] = _no_rank
    bindings: tuple[Binding, ...] = ()
    schedule: tuple[ScheduleRule, ...] = ()
    unsafe: tuple[str, ...] = ()
