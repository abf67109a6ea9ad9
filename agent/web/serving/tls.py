"""TLS of the web process: its certificate, and who may present one."""

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
}


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
    """Return the subject of a verified certificate as `getpeercert` gives it: "CN=mes,O=plant"; empty without one."""
    parts: list[str] = []
    names = certificate.get("subject") if certificate else None
    for relative in names if isinstance(names, tuple) else ():
        parts += [f"{_SHORT.get(key, key)}={value}" for key, value in relative]
    return ",".join(sorted(parts))


def normal_subject(text: str) -> str:
    """Return a configured subject in the form of `subject_of`, whatever its order and spaces."""
    return ",".join(sorted(part.strip() for part in text.split(",") if part.strip()))


def _no_password() -> str:
    raise ssl.SSLError("the key has a passphrase; `openssl pkey -in KEY -out NEW-KEY` writes one without")
