"""Configuration as frozen objects with the file's keys as attributes."""

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field

from agent.messages.errors import MistakeError, denied
from agent.redact import redact
from agent.settings import fields
from agent.settings.fields import sources
from agent.settings.tables.base import Group
from agent.settings.tables.web import WebSettings
from agent.settings.units import CLOCK

Publish = Literal["all", "changes", "summary"]
"""Publish mode of a stream: every frame's detections, those of changed counts, or a summary each second."""
PUBLISH_LEAST_FIRST: Final[tuple[Publish, ...]] = ("summary", "changes", "all")
LogLevel = Literal["debug", "info", "warning"]
LOG_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
_LINE: Final = "the id of a configured line"
DEFAULT_GROUP: Final = "default"
"""The group of every line that names none."""


def host_id() -> str:
    """Return the host name in the form of an id."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "device"


class DeviceSettings(Group):
    """`[device]`: identity, state folder, memory budget and processor."""

    id: fields.Id = Field(default_factory=host_id)
    state_dir: fields.FilePath = Path("/var/lib/changeover")
    memory_budget: fields.Budget = "auto"  # type: ignore[assignment] # the validator makes a MemoryBudget of it
    compute: fields.Compute = "auto"
    prepared_max_bytes: fields.Size = 2 * 2**30
    preload: bool = True
    hot_c: fields.Hot = "auto"  # type: ignore[assignment] # the validator makes a number of it, or None
    """Temperature in °C from which smaller models are used; None: each sensor's own limit."""
    log_level: LogLevel = "info"

    @property
    def cache_dir(self) -> Path:
        """Folder of disposable data: measurements and compiled artifacts."""
        return self.state_dir / "cache"


class MqttSettings(Group):
    """`[mqtt]`: broker, credentials and TLS."""

    url: fields.BrokerUrl = "mqtt://127.0.0.1:1883"
    root: fields.Root = "changeover/v1"
    protocol: Annotated[Literal["auto", "5", "3.1.1"], fields.AsText] = "auto"
    username: str = Field(default="", repr=False)
    password_file: fields.SecretPath | None = None
    ca_file: fields.SecretPath | None = None
    cert_file: fields.SecretPath | None = None
    key_file: fields.SecretPath | None = None
    keepalive_s: Annotated[int, Field(ge=1, le=65535)] = 10

    @property
    def embedded(self) -> bool:
        """True where the agent starts its own broker, for a trial."""
        return self.url == "embedded"

    @property
    def tls(self) -> bool:
        """True for an encrypted connection."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's host; this device for an embedded one."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    def password(self) -> str | None:
        """Return what `password_file` holds; None where none is set. Raises MistakeError where it cannot be read."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8-sig").rstrip("\r\n")
        except PermissionError:
            raise MistakeError(f"mqtt.password_file: {denied(self.password_file)}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise MistakeError(f"mqtt.password_file cannot be read: {type(error).__name__}") from None


class OutboxSettings(Group):
    """`[outbox]`: how many bytes, and for how many seconds, messages are kept until the broker acknowledges them."""

    max_bytes: fields.Size = 256 * 2**20
    max_age: fields.Seconds = 7 * 86400.0
    detections: Literal["offline", "always", "never"] = "offline"


class CatalogSettings(Group):
    """`[catalog]`: the list of models and their store."""

    file: fields.FilePath = Path("models.toml")
    store_dir: fields.FilePath = Path("/var/lib/changeover/models")
    trusted_keys: tuple[sources.PublicKey, ...] = ()
    """Public keys of signers; with any set, a model without a good signature of one is never loaded."""
    index: sources.IndexUrl = ""
    """Folder of the signed index of models, as a URL; "" for none."""
    root: sources.OptionalFile = None
    """The index's first root.json."""
    require_fresh: bool = False
    """Refuse an index whose time is over; else its age is only told."""
    max_bytes: fields.Size = 20 * 2**30
    """Size limit of the store."""
    min_free: fields.Size = 2**30
    """Disk space in bytes that a fetch leaves free."""


class SupplyHostSettings(Group):
    """One `[supply.host."HOST"]`: credentials, certificate authority and address for one host alone."""

    access_key_file: sources.OptionalSecret = None
    secret_key_file: sources.OptionalSecret = None
    token_file: sources.OptionalSecret = None
    ca_file: sources.OptionalSecret = None
    endpoint: sources.Endpoint = ""
    """Address of the service, where references name a bucket or a host that is not its own."""
    region: str = ""


class SupplySettings(Group):
    """`[supply]`: how fast and when models are fetched, and with which credentials."""

    max_kbps: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """Rate limit of downloads in kbit/s; 0: none."""
    window: sources.Window = ""
    """The only time for downloads, in the device's time zone; "": any time."""
    host: dict[sources.Host, SupplyHostSettings] = Field(default_factory=dict)


class HttpSettings(Group):
    """`[http]`: the server of /metrics and /healthz."""

    bind: fields.Bind = "127.0.0.1:9108"
    """HOST:PORT, or "" for none."""


class CanarySettings(Group):
    """`[canary]`: how a candidate is compared with the model that serves, and when it is given up."""

    disagreement: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the objects that speak against the candidate: sure ones that it misses, unsure ones that it adds."""
    score_drop: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Mean drop of the scores of objects that both find."""
    class_shift: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the frames in which more of a class are found, less those with fewer, or the reverse."""
    unsteady: Annotated[float, Field(gt=0, le=100)] = 0.05
    """Share by which its answers may change more than the stable model's when a picture is moved by some pixels."""
    latency: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Factor on the 99th percentile of the stable model's latencies."""
    memory: fields.Size = 64 * 2**20
    """Growth of the worker's memory in bytes while the candidate infers."""
    mode: Literal["shadow", "canary"] = "shadow"
    """Mode where `canary/set` names none, and for candidates that an alias brings; so are the next three."""
    share: Annotated[float, Field(ge=0.001, le=1)] = 0.1
    frames: Annotated[int, Field(ge=10, le=100_000_000)] = 2000
    promote: Literal["auto", "ask"] = "ask"
    look_s: Annotated[fields.Seconds, Field(ge=10, le=86_400)] = 300.0
    """Time in seconds from one look at the aliases that lines follow to the next."""
    least_frames: Annotated[int, Field(ge=10, le=1_000_000)] = 100
    """Frames below which nothing but errors is held against a candidate."""
    keep_bytes: fields.Size = 0
    """Size limit of the most different frames of a line, kept as pictures; 0: none are kept."""


class StreamSettings(Group):
    """One `[[stream]]`: a camera or file, and the line that it belongs to."""

    id: fields.Id = Field(description=fields.ID)
    line: str = Field(description=_LINE)
    source: fields.Source = Field(repr=False, description=fields.SOURCE)
    """URL or path of the camera or file; validation makes a path absolute."""
    fps: Annotated[float, Field(ge=0, le=1000)] = 15.0
    """Frames a second; 0: not paced."""
    loop: bool = False
    publish: Publish = "all"
    stall_s: fields.Seconds = 3.0
    """Time without a frame after which the stream is stalled; 0: never."""
    open_s: Annotated[fields.Seconds, Field(gt=0)] = 10.0
    """Connect timeout of a network camera."""
    ca_file: fields.FilePath | None = None
    """File of the CA of an rtsps or https camera's certificate; None: the certificate is not verified."""
    hwdec: Literal["auto", "off"] = "auto"
    """Decode an RTSP stream in hardware where the device has a decoder, or never."""


class LineSettings(Group):
    """One `[line.ID]`: its models by product, and its timeouts."""

    default: fields.Reference = Field(description=fields.REFERENCE)
    variant: fields.Variant = "n"
    changeover_timeout_s: Annotated[fields.Seconds, Field(gt=0)] = 30.0
    dwell_s: fields.Seconds = 2.0
    prepare_s: fields.Seconds = 1800.0
    group: str = DEFAULT_GROUP
    """The group whose worker serves the line."""
    candidate: sources.Alias = ""
    """mlflow://HOST/MODEL@ALIAS: where the alias moves to a new version, that is compared; "" for none."""
    products: dict[fields.Product, fields.Reference] = Field(default_factory=dict)


class GroupSettings(Group):
    """One `[group.ID]`: a worker process of its own, with its share of memory and processor time."""

    memory: fields.Budget = "auto"  # type: ignore[assignment] # the validator makes a MemoryBudget of it
    """Guaranteed part of the memory budget; automatic: an equal part of what the other groups leave."""
    cpu_weight: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Share of the processor, as `cpu.weight` of cgroup v2 counts it, while others want it too."""


class BindingSettings(Group):
    """One `[[binding]]`: a PLC's own topic that carries a line's product."""

    topic: fields.Topic = Field(description="the topic to listen to")
    line: str = Field(description=_LINE)
    value: fields.JsonPath | None = None
    """JSON path of the value; None: the payload itself."""


class ScheduleRule(Group):
    """One `[[schedule]]`, in the file or in `schedule/set`; sets exactly one of `variant` and `model`.

    `days` counts from 0 for Monday. With `from_` > `to` it holds from such a day over midnight; equal times mean the
    whole day.
    """

    line: str = Field(description=_LINE)
    days: fields.Days = "mon-sun"  # type: ignore[assignment] # the validator makes numbers of it
    from_: Annotated[fields.Clock, Field(alias="from", description=CLOCK)]
    to: fields.Clock = Field(description=CLOCK)
    timezone: fields.Timezone = "UTC"
    variant: fields.Variant | None = None
    model: fields.Reference | None = None


class BandwidthRule(Group):
    """One `[[bandwidth]]`: below `below_kbps`, a line is limited to `max_variant`, to `publish` or to both."""

    line: str = Field(description=_LINE)
    below_kbps: Annotated[float, Field(gt=0, description="a number of kbit/s")]
    max_variant: fields.Variant | None = None
    publish: Publish | None = None


class Settings(Group):
    """The whole valid configuration."""

    version: Literal[1] = Field(default=1, description="1, the version of this file's keys")
    device: DeviceSettings = Field(default_factory=DeviceSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    outbox: OutboxSettings = Field(default_factory=OutboxSettings)
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    supply: SupplySettings = Field(default_factory=SupplySettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    canary: CanarySettings = Field(default_factory=CanarySettings)
    web: WebSettings = Field(default_factory=WebSettings)
    stream: tuple[StreamSettings, ...] = ()
    line: dict[fields.Id, LineSettings] = Field(default_factory=dict)
    group: dict[fields.Id, GroupSettings] = Field(default_factory=dict)
    binding: tuple[BindingSettings, ...] = ()
    schedule: tuple[ScheduleRule, ...] = ()
    bandwidth: tuple[BandwidthRule, ...] = ()

    def streams_of(self, line: str) -> tuple[StreamSettings, ...]:
        """Return the streams of a line, in the file's order."""
        return tuple(stream for stream in self.stream if stream.line == line)

    @property
    def groups(self) -> dict[str, GroupSettings]:
        """The groups that have a worker, `default` first: all configured ones, and `default` where a line is in it."""
        named = {line.group for line in self.line.values()}
        has_default = DEFAULT_GROUP in self.group or DEFAULT_GROUP in named or not self.group
        first = {DEFAULT_GROUP: self.group.get(DEFAULT_GROUP, GroupSettings())} if has_default else {}
        return {**first, **{name: one for name, one in self.group.items() if name != DEFAULT_GROUP}}

    @property
    def configuration_hash(self) -> str:
        """sha256 of all values in canonical form, without secrets."""
        values = self.model_dump(mode="json", by_alias=True)
        for key in ("password_file", "key_file"):  # name only, because systemd moves these files
            values["mqtt"][key] = Path(values["mqtt"][key] or "").name
        for host in values["supply"]["host"].values():
            host.update({key: Path(host[key] or "").name for key in host if key.endswith("_file")})
        for table in (values["web"], *values["web"]["client"]):
            table.update({key: Path(table[key] or "").name for key in table if key.endswith("_file")})
        text = json.dumps(_without_secrets(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - what JSON can hold
    if isinstance(value, dict):
        return {key: _without_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return redact(value) if isinstance(value, str) else value
