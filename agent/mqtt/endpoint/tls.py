"""TLS context of a connection; a private key with a passphrase is refused, because nobody can type it."""

import ssl
from dataclasses import dataclass
from typing import NoReturn

from agent.messages.errors import MistakeError


@dataclass(frozen=True)
class Tls:
    """Files of a TLS connection; without a `ca_file` the system's authorities are trusted."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class LockedKeyError(MistakeError):
    """The private key is protected by a passphrase."""


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the TLS context that uses these files.

    Raises OSError where a file is missing or invalid (its subclass ssl.SSLError, too), and LockedKeyError where the
    private key has a passphrase.
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    _load_own(context, tls)
    return context


def check_key(tls: Tls) -> None:
    """Raise LockedKeyError for a key with a passphrase; other faults show at the connect."""
    try:
        _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)
    except (OSError, ValueError):
        return


def _load_own(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.cert_file is None:
        return
    key_file = tls.key_file or tls.cert_file

    def refuse() -> NoReturn:
        # because OpenSSL would otherwise prompt on the terminal, with signals blocked
        raise LockedKeyError(
            f"mqtt.key_file: found a key with a passphrase, {key_file}, expected one without: "
            "`openssl pkey -in KEY -out NEW-KEY`, readable by this service's user alone"
        )

    context.load_cert_chain(tls.cert_file, tls.key_file, password=refuse)
