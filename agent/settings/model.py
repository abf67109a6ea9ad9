"""The configuration as frozen objects: attributes are named as the keys of the file."""

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from agent.messages.errors import MistakeError
from agent.messages.redact import redact
from agent.settings import fields
from agent.settings.units import CLOCK

Publish = Literal["all", "changes", "summary"]
_LINE: Final = "the id of a configured line"


class Group(BaseModel):
    """A table of the file. An unknown key in it is a mistake."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
    )


def host_id() -> str:
    """Return the host name in the form of an id."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "device"


class DeviceSettings(Group):
    """`[device]`. `hot_c` in °C; None: as each sensor's own limit says."""

    id: fields.Id = Field(default_factory=host_id)
    state_dir: fields.FilePath = Path("/var/lib/changeover")
    memory_budget: fields.Budget = "auto"  # type: ignore[assignment] # the validator makes a MemoryBudget of it
    compute: fields.Compute = "auto"
    prepared_max_bytes: fields.Size = 2 * 2**30
    hot_c: fields.Hot = "auto"  # type: ignore[assignment] # the validator makes a number of it, or None

    @property
    def cache_dir(self) -> Path:
        """What the worker may lose: measures, and artifacts that it prepared."""
        return self.state_dir / "cache"


class MqttSettings(Group):
    """`[mqtt]`."""

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
        """Whether the agent starts a broker of its own, for a trial."""
        return self.url == "embedded"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's host; of an embedded one, this device."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    def password(self) -> str | None:
        """Read `password_file`, without the newline at its end. Raises MistakeError where it cannot be read."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8-sig").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise MistakeError(f"mqtt.password_file cannot be read: {type(error).__name__}") from None


class OutboxSettings(Group):
    """`[outbox]`. `max_bytes` in bytes, `max_age` in seconds."""

    max_bytes: fields.Size = 256 * 2**20
    max_age: fields.Seconds = 7 * 86400.0
    detections: Literal["offline", "always", "never"] = "offline"


class CatalogSettings(Group):
    """`[catalog]`."""

    file: fields.FilePath = Path("models.toml")
    store_dir: fields.FilePath = Path("/var/lib/changeover/models")
    trusted_keys: fields.TrustedKeys = ()


class HttpSettings(Group):
    """`[http]`. `bind` is HOST:PORT, or "" for none."""

    bind: fields.Bind = "127.0.0.1:9108"


class StreamSettings(Group):
    """One `[[stream]]`. A `source` that is a path is absolute; `fps` 0 is as fast as it comes; `stall_s` 0 is never.

    `open_s`: how long a network camera or a pipeline may take to answer.
    """

    id: fields.Id = Field(description=fields.ID)
    line: str = Field(description=_LINE)
    source: fields.Source = Field(repr=False, description=fields.SOURCE)
    fps: Annotated[float, Field(ge=0, le=1000)] = 15.0
    loop: bool = False
    publish: Publish = "all"
    stall_s: fields.Seconds = 3.0
    open_s: Annotated[fields.Seconds, Field(gt=0)] = 10.0


class LineSettings(Group):
    """One `[line.ID]`."""

    default: fields.Reference = Field(description=fields.REFERENCE)
    variant: fields.Variant = "n"
    changeover_timeout_s: Annotated[fields.Seconds, Field(gt=0)] = 30.0
    dwell_s: fields.Seconds = 2.0
    prepare_s: fields.Seconds = 1800.0
    products: dict[fields.Product, fields.Reference] = Field(default_factory=dict)


class BindingSettings(Group):
    """One `[[binding]]`. `value` is a JSON path; None: the payload itself."""

    topic: fields.Topic = Field(description="the topic to listen to")
    line: str = Field(description=_LINE)
    value: fields.JsonPath | None = None


class ScheduleRule(Group):
    """One `[[schedule]]`, in the file or in `schedule/set`.

    `days` counts from 0 for Monday. `from_` > `to` passes midnight and belongs to the day that it began on; both the
    same is the whole day. Exactly one of `variant` and `model` is set.
    """

    line: str = Field(description=_LINE)
    days: fields.Days = "mon-sun"  # type: ignore[assignment] # the validator makes numbers of it
    from_: Annotated[fields.Clock, Field(alias="from", description=CLOCK)]
    to: fields.Clock = Field(description=CLOCK)
    timezone: fields.Timezone = "UTC"
    variant: fields.Variant | None = None
    model: fields.Reference | None = None


class BandwidthRule(Group):
    """One `[[bandwidth]]`. At least one of `max_variant` and `publish` is set."""

    line: str = Field(description=_LINE)
    below_kbps: Annotated[float, Field(gt=0, description="a number of kbit/s")]
    max_variant: fields.Variant | None = None
    publish: Publish | None = None


class Settings(Group):
    """The whole configuration, without a mistake in it."""

    device: DeviceSettings = Field(default_factory=DeviceSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    outbox: OutboxSettings = Field(default_factory=OutboxSettings)
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    stream: tuple[StreamSettings, ...] = ()
    line: dict[fields.Id, LineSettings] = Field(default_factory=dict)
    binding: tuple[BindingSettings, ...] = ()
    schedule: tuple[ScheduleRule, ...] = ()
    bandwidth: tuple[BandwidthRule, ...] = ()

    def streams_of(self, line: str) -> tuple[StreamSettings, ...]:
        """Return the streams of a line, in the file's order."""
        return tuple(stream for stream in self.stream if stream.line == line)

    @property
    def configuration_hash(self) -> str:
        """sha256 of all values in a canonical form, without a secret that any of them holds."""
        values = self.model_dump(mode="json", by_alias=True)
        for key in ("password_file", "key_file"):  # the same in the service, where systemd puts them elsewhere
            values["mqtt"][key] = Path(values["mqtt"][key] or "").name
        text = json.dumps(_without_secrets(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - what JSON can hold
    if isinstance(value, dict):
        return {key: _without_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return redact(value) if isinstance(value, str) else value
