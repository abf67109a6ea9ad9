"""Messages between the control process and the supply process, which fetches models, over `processes.channel`."""

from typing import Literal

import msgspec

from agent.messages.children import Beat, Hello, Log, LogSetup, Message
from agent.messages.errors import Reason


class SupplyHost(msgspec.Struct, frozen=True):
    """Access to one host; empty where nothing is set. Credentials are named by their files, and sent to it alone."""

    host: str
    """HOST or HOST:PORT, as in references."""
    access_key_file: str = ""
    secret_key_file: str = ""
    token_file: str = ""
    ca_file: str = ""
    endpoint: str = ""
    """http(s)://HOST[:PORT] of the service, where that differs from `host`."""
    region: str = ""


# ---- control -> supply


class SupplySetup(Message, frozen=True):
    """First message to a supply process."""

    store_dir: str
    catalog_file: str
    state_dir: str
    max_bytes: int
    """Size limit of the store."""
    min_free_bytes: int
    """Disk space that a fetch leaves free."""
    max_kbps: int = 0
    """Rate limit in kbit/s; 0: none."""
    window: str = ""
    """The only time for downloads such as "22:00-05:00"; empty: any time."""
    timezone: str = ""
    """Time zone of `window`; empty: the device's own."""
    hosts: tuple[SupplyHost, ...] = ()
    trusted_keys: tuple[str, ...] = ()
    index: str = ""
    """URL of the folder of the signed index; empty: none."""
    root: str = ""
    """Path of the index's first root.json; empty: none."""
    require_fresh: bool = False
    """Refuse an index whose time is over."""


class FetchModels(Message, frozen=True):
    """Fetches, verifies and stores models; answered once, with Fetched or FetchFailed of the same `job`."""

    job: str
    entries: tuple[bytes, ...]
    """JSON of each model, with the keys of a `[[model]]` in models.toml."""
    index: str
    """URL of a signed index, all of whose models are wanted instead; with no entries either, the set-up's is read."""
    max_s: float
    """Time limit of the job in seconds."""


class EnterModels(Message, frozen=True):
    """Enters models in models.toml and removes others, atomically; answered with Entered or FetchFailed."""

    job: str
    entries: tuple[bytes, ...]
    """JSON of each model, as in FetchModels; one with a known reference replaces that."""
    remove: tuple[str, ...]
    """Full references NAME:VARIANT@VERSION."""


class Followed(msgspec.Struct, frozen=True):
    """One alias of a registry that lines follow, and what is to be written about a version of its model."""

    alias: str
    """mlflow://HOST/MODEL@ALIAS."""
    variant: str
    """Variant in the catalog of a version that has no tag for it."""
    tags: tuple[tuple[str, str, str], ...] = ()
    """Tags to write: the model's version in the registry, key, value."""


class FollowAliases(Message, frozen=True):
    """Writes tags, and fetches what aliases mean; answered once, with AliasesFound or FetchFailed of the same `job`."""

    job: str
    aliases: tuple[Followed, ...]
    known: tuple[str, ...]
    """Full references that need not be fetched."""
    max_s: float
    """Time limit of the job in seconds."""


# ---- supply -> control


class Fault(msgspec.Struct, frozen=True):
    """Reason of a failure; with `is_transient` the same may succeed later."""

    reason: Reason
    detail: str
    is_transient: bool


class AliasesFound(Message, frozen=True):
    """Meaning of each alias that is set; what was not known is in the store, verified, unless it is `refused`."""

    job: str
    found: tuple[tuple[str, str, str], ...]
    """Alias, variant asked for, and the full reference that it means."""
    entries: tuple[bytes, ...]
    """JSON of each fetched model; `file` is the path in the store."""
    missed: tuple[tuple[str, str], ...] = ()
    """Alias and variant asked for of each that could not be looked up."""
    refused: tuple[str, ...] = ()
    """Full references that were not known and could not be fetched."""
    unwritten: tuple[str, ...] = ()
    """Keys of tags that a later attempt may write."""
    fault: Fault | None = None
    """The first failure of what was missed or refused."""


class FetchProgress(Message, frozen=True):
    """Progress of a job's downloads, at most once a second."""

    job: str
    state: Literal["downloading", "verifying"]
    bytes: int
    """Bytes fetched so far, of all models of the job."""
    total: int
    """Size of all models in bytes; 0: not known yet."""
    kbps: float
    """Rate in kbit/s."""
    eta_s: float | None = None
    """Estimated time left in seconds; None: unknown."""


class Fetched(Message, frozen=True):
    """All models of a job are in the store, verified."""

    job: str
    entries: tuple[bytes, ...]
    """JSON of each model; `file` is the path in the store."""


class FetchFailed(Message, frozen=True):
    """A job failed; with `is_transient` the same may succeed later."""

    job: str
    reason: Reason
    detail: str
    is_transient: bool


class Entered(Message, frozen=True):
    """models.toml is changed as a job's EnterModels said."""

    job: str


SupplyMessage = FetchProgress | Fetched | AliasesFound | FetchFailed | Entered | Hello | Beat | Log
ToSupply = SupplySetup | FetchModels | FollowAliases | EnterModels | LogSetup
