"""Settings of a connection: address, credentials, session and will."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.messages.errors import MistakeError, denied
from agent.mqtt.endpoint.tls import Tls, check_key

if TYPE_CHECKING:
    from agent.settings import MqttSettings

ProtocolVersion = Literal["5", "3.1.1"]
ProtocolSetting = Literal["auto", "5", "3.1.1"]


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
    """Topic of the echo ping; with None, only paho's keepalive detects a dead link."""


def for_client(mqtt: "MqttSettings") -> LinkSettings:
    """Return settings for a simple client of the configured broker; the broker chooses its client id.

    Raises MistakeError where one of its files cannot be read, or the key has a passphrase.
    """
    for file in (mqtt.ca_file, mqtt.cert_file, mqtt.key_file) if mqtt.tls else ():
        _require_permission(file)
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


def _require_permission(file: Path | None) -> None:
    """Raise MistakeError for a file closed to this user, because OpenSSL's error names no file."""
    try:
        if file is not None:
            file.open("rb").close()
    except PermissionError:
        raise MistakeError(denied(file)) from None
    except OSError:
        return  # the connect tells it


def tls_of(mqtt: "MqttSettings") -> Tls | None:
    """Return the configured TLS files, None without TLS. Raises MistakeError for a key with a passphrase."""
    if not mqtt.tls:
        return None
    files = (mqtt.ca_file, mqtt.cert_file, mqtt.key_file)
    tls = Tls(*(str(file) if file is not None else None for file in files))
    check_key(tls)
    return tls
