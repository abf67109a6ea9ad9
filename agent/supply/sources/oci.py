"""oci://HOST/REPO:TAG or @sha256:DIGEST: an artifact of a container registry.

The protocol: https://github.com/opencontainers/distribution-spec. A model's files are layers of one manifest, found by
their sha256; a file's signature is the layer with its title and .minisig behind it, else the only one that ends so.
"""

import hashlib
import json
import re
from typing import Any, Final
from urllib.parse import quote, urlencode

from agent.messages.errors import ModelError
from agent.supply.sources.located import Located
from agent.supply.sources.web import Web, read_bounded, require_good, require_redirect
from agent.supply.wanted import Wanted

_REFERENCE: Final = re.compile(
    r"oci://(?P<host>[^/@]+)/(?P<repo>[a-z0-9][a-z0-9._/-]*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))"
)
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_TITLE: Final = "org.opencontainers.image.title"
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_UNAUTHORIZED: Final = 401


def resolve(wanted: Wanted, web: Web) -> Located:
    """Find the layer that has the wanted sha256, and the token that may read it."""
    parts = _REFERENCE.fullmatch(wanted.reference)
    if parts is None:
        expected = "oci://HOST/REPO:TAG or oci://HOST/REPO@sha256:DIGEST"
        raise ModelError("source_refused", f"{wanted.reference}: expected {expected}")
    base = f"{web.hosts.base_url(parts['host'])}/v2/{parts['repo']}"
    manifest, headers = _manifest(web, f"{base}/manifests/{parts['digest'] or parts['tag']}", parts["digest"])
    layer = _layer(manifest, wanted)
    size = layer.get("size")
    return Located(f"{base}/blobs/{layer['digest']}", _title(layer), headers, size if isinstance(size, int) else None)


def _manifest(web: Web, url: str, digest: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the manifest, and the headers that authorize a read of its layers."""
    accept = {"Accept": ", ".join(_MANIFESTS)}
    headers = web.hosts.authorization(url)
    challenge = None
    with web.open(url, headers | accept) as response:
        if response.status_code == _UNAUTHORIZED:
            challenge = response.headers.get("www-authenticate", "")
        else:
            require_good(response)
            data = read_bounded(response, 1 << 20)
    if challenge is not None:
        headers = {"Authorization": f"Bearer {_token(web, challenge, url)}"}
        data = web.get(url, headers | accept, most_bytes=1 << 20)
    if digest and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ModelError("hash_mismatch", f"{url}: the manifest is not {digest}")
    manifest = _json(data, url)
    if not isinstance(manifest.get("layers"), list):
        raise ModelError("source_refused", f"{url}: found no manifest with layers, expected an artifact's (oras push)")
    return manifest, headers


def _token(web: Web, challenge: str, url: str) -> str:
    """Return the token that a registry's challenge asks for; its issuer gets the credentials of its own host only."""
    asked = dict(_CHALLENGE.findall(challenge))
    if not challenge.lower().startswith("bearer ") or "realm" not in asked:
        wanted = "access_key_file and secret_key_file of this host in [supply.host]"
        raise ModelError("source_refused", f"{url}: found no right to read, expected {wanted}")
    require_redirect(url, asked["realm"])
    query = urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    answer = _json(web.get(f"{asked['realm']}?{query}"), asked["realm"])
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isprintable() or not token.isascii():
        raise ModelError("source_refused", f"{asked['realm']}: found no token in the answer")
    return token


def _layer(manifest: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    layers = [one for one in manifest["layers"] if isinstance(one, dict) and isinstance(one.get("digest"), str)]
    own = next((one for one in layers if one["digest"] == f"sha256:{wanted.sha256}"), None)
    if not wanted.ending:
        if own is None:
            raise ModelError("hash_mismatch", f"{wanted.reference}: no layer has sha256 {wanted.sha256}")
        return own
    named = {title: one for one in layers if (title := _title(one)).endswith(wanted.ending)}
    found = named.get(f"{_title(own)}{wanted.ending}") if own is not None else None
    if found is None and len(named) == 1:
        [found] = named.values()
    if found is None:
        what = f"found {len(named)} layers titled *{wanted.ending}, expected one with the file's title before that"
        raise ModelError("not_found", f"{wanted.reference}: {what}")
    return found | {"digest": quote(found["digest"], safe=":")}


def _title(layer: dict[str, Any]) -> str:
    return str((layer.get("annotations") or {}).get(_TITLE) or "")


def _json(data: bytes, url: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelError("source_refused", f"{url}: found no JSON object in the answer")
    return value
