"""oci://HOST/REPO:TAG or @sha256:DIGEST: an artifact of a container registry.

The protocol: https://github.com/opencontainers/distribution-spec. A model's files are layers of one manifest, found by
their sha256; a signature is the layer with the title that the catalog names, else with the file's title and .minisig
behind it, else the only one that ends so.
"""

import hashlib
import re
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import msgspec

from agent.messages.errors import ModelError
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.supply.sources.answers import decoded
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


class _Layer(msgspec.Struct, frozen=True):
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    annotations: dict[str, str] | None = None

    @property
    def title(self) -> str:
        return (self.annotations or {}).get(_TITLE, "")


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer]


class _Token(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None


def resolve(wanted: Wanted, web: Web) -> Located:
    """Find the layer that has the wanted sha256, and the token that may read it."""
    parts = _REFERENCE.fullmatch(wanted.reference)
    if parts is None:
        expected = "oci://HOST/REPO:TAG or oci://HOST/REPO@sha256:DIGEST"
        raise ModelError("source_refused", f"{wanted.reference}: expected {expected}")
    base = f"{web.hosts.base_url(parts['host'])}/v2/{parts['repo']}"
    manifest, headers = _manifest(web, f"{base}/manifests/{parts['digest'] or parts['tag']}", parts["digest"])
    layer = _layer(manifest, wanted)
    return Located(f"{base}/blobs/{quote(layer.digest, safe=':')}", layer.title, headers, layer.size)


def _manifest(web: Web, url: str, digest: str | None) -> tuple[_Manifest, dict[str, str]]:
    """Return the manifest, and the headers that authorize a read of its layers."""
    accept = {"Accept": ", ".join(_MANIFESTS)}
    headers = web.hosts.authorization(url)
    challenge = None
    with web.open(url, headers | accept) as response:
        if response.status_code == _UNAUTHORIZED:
            challenge = response.headers.get("www-authenticate", "")
            read_bounded(response, 1 << 20)  # because only a connection that was read to its end is kept
        else:
            require_good(response)
            data = read_bounded(response, 1 << 20)
    if challenge is not None:
        headers = {"Authorization": f"Bearer {_token(web, challenge, url)}"}
        data = web.get(url, headers | accept, most_bytes=1 << 20)
    if digest and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ModelError("hash_mismatch", f"{url}: the manifest is not {digest}")
    return decoded(data, _Manifest, url, "a manifest with layers, such as an artifact's (oras push)"), headers


def _token(web: Web, challenge: str, url: str) -> str:
    """Return the token that a registry's challenge asks for; its issuer gets the credentials of its own host only."""
    asked = dict(_CHALLENGE.findall(challenge))
    if not challenge.lower().startswith("bearer ") or "realm" not in asked:
        wanted = "access_key_file and secret_key_file of this host in [supply.host]"
        raise ModelError("source_refused", f"{url}: found no right to read, expected {wanted}")
    require_redirect(url, asked["realm"])
    query = urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    answer = decoded(web.get(f"{asked['realm']}?{query}"), _Token, asked["realm"], "a token")
    token = answer.token or answer.access_token
    if not token or not token.isprintable() or not token.isascii():
        raise ModelError("source_refused", f"{asked['realm']}: found no token in the answer")
    return token


def _layer(manifest: _Manifest, wanted: Wanted) -> _Layer:
    own = next((one for one in manifest.layers if one.digest == f"sha256:{wanted.sha256}"), None)
    if not wanted.is_signature:
        if own is None:
            raise ModelError("hash_mismatch", f"{wanted.reference}: no layer has sha256 {wanted.sha256}")
        return own
    by_title = {one.title: one for one in manifest.layers}
    title = wanted.name_beside(own.title) if own is not None else ""
    if title and title in by_title:
        return by_title[title]
    named = [one for one in manifest.layers if one.title.endswith(SIGNATURE_SUFFIX)]
    if len(named) == 1 and not wanted.is_named:
        return named[0]
    what = f"found {len(named)} layers titled *{SIGNATURE_SUFFIX}, expected one titled {title or 'so'}"
    raise ModelError("not_found", f"{wanted.reference}: {what}")
