"""Settings of a connection: address, credentials, session and will."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args
from urllib.parse import unquote, urlsplit

from agent.messages.errors import MistakeError
from agent.mqtt.endpoint.tls import Tls, check_key

if TYPE_CHECKING:
    from agent.settings import MqttSettings

ProtocolVersion = Literal["5", "3.1.1"]
ProtocolSetting = Literal["auto", "5", "3.1.1"]
PROTOCOL_VERSIONS: Final[tuple[ProtocolVersion, ...]] = get_args(ProtocolVersion)
_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Will:
    """The last will: published by the broker, retained at QoS 1, when this client is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class LinkSettings:
    """Settings of the connection to one broker."""

    host: str
    port: int
    client_id: str
    tls: Tls | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    password_file: str | None = None
    """Read at each attempt; overrides `password`."""
    protocol: ProtocolSetting = "auto"
    keepalive_s: int = 10
    session_s: int = 0
    """Session expiry: the time the broker queues QoS 1 messages for us; 0: no session."""
    will: Will | None = None
    ping_topic: str | None = None
    """Topic of the echo ping; None leaves dead links to paho's keepalive alone."""


@dataclass(frozen=True)
class Address:
    """The parts of a broker URL."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


def parse_url(url: str) -> Address:
    """Parse `mqtt://[USER[:PASSWORD]@]HOST[:PORT]`, or `mqtts://` for TLS. Raises MistakeError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MistakeError(
            f"not a broker's URL: {error}; expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
        ) from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise MistakeError("not a broker's URL; expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    return Address(
        host=parts.hostname,
        port=_DEFAULT_PORTS[parts.scheme] if port is None else port,
        tls=parts.scheme == "mqtts",
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password).encode(),
    )


def settings_of(url: str, client_id: str = "", protocol: ProtocolSetting = "auto") -> LinkSettings:
    """Return the settings of a plain client; with an empty `client_id` the broker chooses one."""
    address = parse_url(url)
    return LinkSettings(
        host=address.host,
        port=address.port,
        client_id=client_id,
        tls=Tls() if address.tls else None,
        username=address.username,
        password=address.password,
        protocol=protocol,
    )


def for_client(mqtt: "MqttSettings") -> LinkSettings:
    """Return settings for a plain client of the configured broker, which chooses the client id.

    Raises MistakeError where the password file cannot be read, or the key has a passphrase.
    """
    password = mqtt.password()
    return LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id="",
        tls=tls_of(mqtt),
        username=mqtt.username or None,
        password=None if password is None else password.encode(),
        protocol=mqtt.protocol,
        keepalive_s=mqtt.keepalive_s,
    )


def tls_of(mqtt: "MqttSettings") -> Tls | None:
    """Return the configured TLS files, None without TLS. Raises MistakeError for a locked key."""
    if not mqtt.tls:
        return None
    files = (mqtt.ca_file, mqtt.cert_file, mqtt.key_file)
    tls = Tls(*(str(file) if file is not None else None for file in files))
    check_key(tls)
    return tls
