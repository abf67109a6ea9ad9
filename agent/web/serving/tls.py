"""TLS of the web process: its certificate, and who may present one."""

import re
import ssl
from collections.abc import Mapping
from typing import Final

from agent.messages.web.control import WebSetup

_SHORT: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "domainComponent": "DC",
    "userId": "UID",
}
_NAMES: Final = {name.lower(): short for names in _SHORT.items() for name in names for short in names[1:]}
_PART: Final = re.compile(r"(?:\\.|[^,\\])+", re.DOTALL)
"""Part of a subject as text: a backslash makes the next character one of the value."""


def context_of(setup: WebSetup, protocols: tuple[str, ...]) -> ssl.SSLContext | None:
    """Return the context of a server, None without a certificate; `protocols` are those of ALPN.

    With an authority of clients, a certificate is asked for and not required, because a token may prove a client too.
    Raises OSError (ssl.SSLError included) where a file cannot be used.
    """
    if not setup.cert_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(setup.cert_file, setup.key_file, password=_no_password)
    context.set_alpn_protocols(list(protocols))
    if setup.client_ca_file:
        context.load_verify_locations(setup.client_ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def subject_of(certificate: Mapping[str, object] | None) -> str:
    """Return the subject of a verified certificate as `getpeercert` gives it: "CN=mes,O=plant"; empty without one.

    A comma within a value has a backslash before it, so that no value looks like several parts.
    """
    parts: list[str] = []
    names = certificate.get("subject") if certificate else None
    for relative in names if isinstance(names, tuple) else ():
        parts += [_part(key, value) for key, value in relative]
    return ",".join(sorted(parts))


def normal_subject(text: str) -> str:
    """Return a configured subject in the form of `subject_of`, whatever its order and spaces."""
    parts = [one.partition("=") for one in _PART.findall(text) if one.strip()]
    return ",".join(sorted(_part(key.strip(), re.sub(r"\\(.)", r"\1", value.strip())) for key, _, value in parts))


def _part(key: str, value: str) -> str:
    return f"{_NAMES.get(key.lower(), key)}=" + re.sub(r"([,\\])", r"\\\1", value)


def _no_password() -> str:
    raise ssl.SSLError("the key has a passphrase; `openssl pkey -in KEY -out NEW-KEY` writes one without")
