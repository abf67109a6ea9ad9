"""The configured plant: lines, streams, topic bindings, rules and catalog queries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.messages.references import ModelReference, ModelVersion
from agent.settings import DEFAULT_GROUP, BandwidthRule, CanarySettings, ScheduleRule

Read = Callable[[object], object]
"""Function that extracts one value from a parsed JSON document; raises LookupError unless exactly one matches."""


@dataclass(frozen=True)
class LineRules:
    """Configuration of one line."""

    default: ModelReference
    variant: str
    products: Mapping[str, ModelReference]
    """A PLC's product codes, each with its model reference."""
    changeover_timeout_s: float
    dwell_s: float = 2.0
    prepare_s: float = 1800.0
    bandwidth: tuple[BandwidthRule, ...] = ()
    group: str = DEFAULT_GROUP
    """The group whose worker serves the line."""
    candidate: str = ""
    """Alias of a registry that the line follows for its candidates; empty: none."""


@dataclass(frozen=True)
class Binding:
    """A PLC's own topic that carries a line's product."""

    topic: str
    line: str
    read: Read | None = None
    """Finds the value in a JSON payload; None takes the whole payload."""


def _no_variants(_name: str) -> tuple[str, ...]:
    return ()


def _no_rank(_name: str, _variant: str) -> float:
    return float("inf")


def _no_models(_content: object) -> tuple[bytes, ...]:
    raise ValueError("this device takes no models by message")


def _no_versions(_entries: tuple[bytes, ...]) -> tuple[ModelVersion, ...]:
    return ()


@dataclass(frozen=True)
class Supply:
    """Catalog and configuration as model orders see them."""

    read: Callable[[object], tuple[bytes, ...]] = _no_models
    """Decode the models of an order to the JSON of each; raises ValueError with what is wrong."""
    versions: Callable[[tuple[bytes, ...]], tuple[ModelVersion, ...]] = _no_versions
    """Return the versions that such entries stand for; raises ValueError."""
    amended: "Callable[[tuple[bytes, ...], tuple[str, ...]], Plant] | None" = None
    """Return the plant with models added and others removed; raises ValueError where releases would change."""
    closed: str = ""
    """Words about why the service cannot change the catalog; empty where it can."""
    missing: tuple[bytes, ...] = ()
    """JSON of each model of the catalog whose file is not in the store yet."""
    revoked: tuple[str, ...] = ()
    """References of models of the catalog that the signed index has revoked."""
    index: str = ""
    """URL of the configured index; empty: none."""
    window: str = ""
    """The only time for downloads, as configured."""
    in_window: Callable[[float], bool] = lambda _unix_s: True
    """True for a time (Unix) in the window; always where none is configured."""


@dataclass(frozen=True)
class Plant:
    """The configured plant, with the catalog's queries as functions."""

    base: str
    boot: str
    lines: Mapping[str, LineRules]
    streams: Mapping[str, str]
    find: Callable[[ModelReference, str], ModelVersion | None]
    """Find a version in the catalog, or None; the variant applies to a reference without one."""
    variants: Callable[[str], tuple[str, ...]] = _no_variants
    """List a model's variants, the smallest first."""
    rank: Callable[[str, str], float] = _no_rank
    """Rank a variant of a model by size, also a variant that the model does not have."""
    groups: tuple[str, ...] = (DEFAULT_GROUP,)
    """The groups, with a worker each."""
    bindings: tuple[Binding, ...] = ()
    schedule: tuple[ScheduleRule, ...] = ()
    preloads: bool = True
    """Likely models are loaded in idle time."""
    unsafe: tuple[str, ...] = ()
    """References of versions that may be opened without the sandbox."""
    models: tuple[ModelVersion, ...] = ()
    """All versions of the catalog."""
    supply: Supply = field(default_factory=Supply)
    canary: CanarySettings = field(default_factory=CanarySettings)
    keep_dir: str = ""
    """Folder of the pictures of comparisons."""

    def loadable(self, reference: str) -> ModelVersion | None:
        """Return the version with a full reference; None where the catalog lacks it, or the signed index revoked it."""
        if reference in self.supply.revoked:
            return None
        return next((one for one in self.models if one.reference == reference), None)
