"""Classification of refusals and connect errors, with advice and whether a retry helps."""

import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Final

from agent.messages.errors import MistakeError

_EXPIRED: Final = 10
_NOT_YET: Final = 9
_OTHER_HOST: Final = (62, 64)
_UNKNOWN: Final = (2, 18, 19, 20, 21)
"""OpenSSL's codes of an untrusted authority: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/."""
_CLIENT_ALERTS: Final = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "EXPIRED")
CERTIFICATE_REFUSED: Final = (
    "the broker did not accept our certificate, or wants one: see mqtt.cert_file and mqtt.key_file"
)
_REFUSALS: Final = (
    "Bad user name or password",
    "Not authorized",
    "Banned",
    "Client identifier not valid",
    "Bad authentication method",
    "QoS not supported",
    "Retain not supported",
)


_LOGINS: Final = ("Bad user name or password", "Not authorized")
_SYSTEMD_COPIES: Final = "/run/credentials/"
"""Folder in which systemd keeps copies of LoadCredential= files, made when the service starts (systemd.exec(5))."""
NO_QOS_1: Final = "the broker has no QoS 1 (it grants QoS 0), so commands and `ready` could be lost: allow it there"
_FAILURE: Final = 0x80
_DENIED: Final = frozenset({0x87, 0x90})
"""MQTT 5 reason codes: not authorized; topic name invalid."""
_UNFIT: Final = frozenset({0x95, 0x99})
"""MQTT 5 reason codes: packet too large; payload format invalid."""


class Outcome(Enum):
    """The broker's answer to one message; each kind of refusal has its own retry."""

    ACCEPTED = "accepted"
    LATER = "refused for the moment"
    DENIED = "refused for want of rights"
    NEVER = "refused for what it is"


def outcome_of(reason_code: int) -> Outcome:
    """Classify a reason code of PUBACK or SUBACK; an unknown refusal is retried."""
    if reason_code < _FAILURE:
        return Outcome.ACCEPTED
    if reason_code in _DENIED:
        return Outcome.DENIED
    return Outcome.NEVER if reason_code in _UNFIT else Outcome.LATER


@dataclass(frozen=True)
class Failure:
    """A failed connect attempt."""

    detail: str
    is_refusal: bool
    """True where a retry cannot help before somebody changes something."""


def explain(error: Exception, host: str) -> Failure:
    """Return the failure that the exception of a connect attempt to `host` means."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(f"{_certificate(error.verify_code, host)} ({said})", is_refusal=True)
    if isinstance(error, ssl.SSLError):
        return Failure(f"{_handshake(str(error.reason))} ({said})", is_refusal=True)
    if isinstance(error, MistakeError):
        return Failure(str(error), is_refusal=True)
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return Failure(f"a file of mqtt.ca_file, cert_file, key_file or password_file: {said}", is_refusal=True)
    return Failure(said, is_refusal=False)


def is_refusal(connack_reason: str) -> bool:
    """Return True for a CONNACK's reason for which somebody has to change the login or the broker."""
    return connack_reason in _REFUSALS


def login_advice(connack_reason: str, username: str | None, password_file: str | None) -> str:
    """Return what to do about a refused login, beginning with a semicolon; empty where the reason is another one."""
    if not connack_reason.endswith(_LOGINS):
        return ""
    if not username:
        return "; mqtt.username is not set: give user and password_file, or let the broker take anonymous clients"
    if password_file is None:
        return f"; it was told the user {username} without a password: set mqtt.password_file"
    if password_file.startswith(_SYSTEMD_COPIES):
        kept = f"/etc/changeover/credentials/{PurePath(password_file).name}"
        return (
            f"; the password is systemd's copy of {kept}, taken when the service started: "
            "a file that was changed since needs `sudo systemctl restart changeover`"
        )
    return f"; check mqtt.username and the password in {password_file}, which is read again at each attempt"


def missing_service(maximum_qos: int, *, retains: bool) -> str | None:
    """Return why the broker cannot carry `ready`, from the features in its CONNACK (MQTT 5); else None."""
    if maximum_qos < 1:
        return NO_QOS_1
    if not retains:
        return "the broker retains nothing (Retain Available 0), so nobody could read `ready`: allow it there"
    return None


def is_refused_certificate(said: str) -> bool:
    """Return True where the text of a TLS error means that our certificate was refused.

    With TLS 1.3 a broker checks it after our handshake, and its alert may be lost with the connection.
    """
    words = said.upper().replace(" ", "_")
    return any(word in words for word in (*_CLIENT_ALERTS, "EOF_OCCURRED", "RESET_BY_PEER"))


def _certificate(code: int, host: str) -> str:
    if code == _EXPIRED:
        return "the broker's certificate has expired"
    if code == _NOT_YET:
        return "the broker's certificate is not valid yet: look at this device's clock"
    if code in _OTHER_HOST:
        return f"the broker's certificate is not for {host}: mqtt.url must name the host that the certificate names"
    if code in _UNKNOWN:
        return "the broker's certificate comes from an authority that is not trusted: see mqtt.ca_file"
    return "the broker's certificate is not good"


def _handshake(reason: str) -> str:
    is_ours = any(word in reason.upper().replace(" ", "_") for word in _CLIENT_ALERTS)
    return CERTIFICATE_REFUSED if is_ours else "TLS did not come about"
