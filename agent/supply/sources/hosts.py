"""Credentials, authorities and endpoints by host."""

import base64
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.messages.errors import ModelError
from agent.messages.short_lived.supply import SupplyHost

_MOST_BYTES: Final = 64 << 10
_PORTS: Final = {"http": 80, "https": 443}


class Hosts:
    """The table `[supply.host.X]`; a secret is read from its file when it is needed, and sent to its host alone."""

    def __init__(self, hosts: Sequence[SupplyHost]) -> None:
        self._hosts: Final = tuple(hosts)

    def of(self, netloc: str) -> SupplyHost:
        """Return the settings of HOST[:PORT]; those of a host without settings are empty."""
        return next((host for host in self._hosts if host.host.lower() == netloc.lower()), SupplyHost(netloc))

    def of_url(self, url: str) -> SupplyHost:
        """Return the settings of a URL's host, found by its endpoint, else by https:// and its name."""
        origin = origin_of(url)
        for host in self._hosts:
            if origin_of(host.endpoint or f"https://{host.host}") == origin:
                return host
        return SupplyHost(urlsplit(url).netloc)

    def with_keys(self) -> tuple[SupplyHost, ...]:
        """Return the hosts that have an access key."""
        return tuple(host for host in self._hosts if host.access_key_file)

    def base_url(self, netloc: str) -> str:
        """Return the endpoint of a reference's host, https:// with its name where none is set."""
        return (self.of(netloc).endpoint or f"https://{netloc}").rstrip("/")

    def authorization(self, url: str) -> dict[str, str]:
        """Return the headers that authorize a request to `url`; empty where its host has no credentials.

        Raises ModelError where a file of the credentials cannot be read.
        """
        host = self.of_url(url)
        if host.token_file:
            return {"Authorization": f"Bearer {secret(host.token_file)}"}
        if host.access_key_file and host.secret_key_file:
            pair = f"{secret(host.access_key_file)}:{secret(host.secret_key_file)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}

    def tls(self, url: str) -> ssl.SSLContext:
        """Return the TLS context of a URL's host, with its own authority or the system's. Raises ModelError."""
        ca_file = self.of_url(url).ca_file
        try:
            return ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ModelError("source_refused", f"ca_file {ca_file}: {error}") from None


def secret(file: str) -> str:
    """Return the content of a credential's file, without the white space around it. Raises ModelError."""
    try:
        with Path(file).open("rb") as stream:
            text = stream.read(_MOST_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "is no text"
        raise ModelError("source_refused", f"credential {file}: {words}") from None
    if not text or not text.isprintable():
        raise ModelError("source_refused", f"credential {file}: expected one line of text")
    return text


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL. Raises ModelError where it has none."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme, 0)
    except ValueError:
        raise ModelError("source_refused", "the source sent an address that is none") from None
