"""mlflow://HOST/MODEL@ALIAS or mlflow://HOST/MODEL/VERSION: a model of an MLflow registry, without its package.

The protocol: https://mlflow.org/docs/latest/api_reference/rest-api.html. The artifact proxy serves Range and ETag.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Final, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from agent.messages.errors import ModelError
from agent.models.catalog_entry import SUFFIXES
from agent.supply.sources.answers import decoded
from agent.supply.sources.located import Located
from agent.supply.sources.web import Web, read_bounded, require_good
from agent.supply.wanted import Wanted

_REFERENCE: Final = re.compile(
    r"mlflow://(?P<host>[^/@]+)/(?P<model>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))"
)
_API: Final = "/api/2.0/mlflow"
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts"
_PROXIED: Final = "mlflow-artifacts"
_ANSWER: Final = "an MLflow server's answer"
_UNKNOWN: Final = (400, 404)
"""Status of an answer where a model or an alias is not there; the two are of different releases."""
_MOST_BYTES: Final = 1 << 20
_T = TypeVar("_T")


class _Tag(msgspec.Struct, frozen=True):
    key: str
    value: str = ""


class _TaggedVersion(msgspec.Struct, frozen=True):
    version: str | int
    tags: list[_Tag] = []


class _TaggedAlias(msgspec.Struct, frozen=True):
    model_version: _TaggedVersion


class _Place(msgspec.Struct, frozen=True):
    artifact_uri: str


class _File(msgspec.Struct, frozen=True):
    path: str
    is_dir: bool = False
    file_size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Folder(msgspec.Struct, frozen=True):
    files: list[_File] = []


def resolve(wanted: Wanted, web: Web) -> Located:
    """Ask for the version that an alias means, for its folder, and for the one model file in that."""
    parts = _REFERENCE.fullmatch(wanted.reference)
    if parts is None:
        expected = "mlflow://HOST/MODEL@ALIAS or mlflow://HOST/MODEL/VERSION"
        raise ModelError("source_refused", f"{wanted.reference}: expected {expected}")
    base, model = web.hosts.base_url(parts["host"]), unquote(parts["model"])
    version = unquote(parts["version"] or "")
    if not version:
        meant = aliased(wanted.reference, web)
        if meant is None:
            raise ModelError(
                "not_found", f"{wanted.reference}: the server knows no such model, or it has no such alias"
            )
        version = meant.version
    answer = _ask(web, f"{base}{_API}/model-versions/get-download-uri", _Place, name=model, version=version)
    scheme, root = _split(answer.artifact_uri, wanted)
    if scheme != _PROXIED:
        wanted_place = "the server's own proxy (mlflow server --serve-artifacts)"
        what = f"its artifacts are at {scheme}://, expected {wanted_place}"
        raise ModelError("source_refused", f"{wanted.reference}: {what}")
    own, size = _model_file(web, f"{base}{_PROXY}", root, wanted)
    name = wanted.name_beside(own)
    url = f"{base}{_PROXY}/{quote(f'{root}/{name}')}"
    is_own = name == own
    return Located(url, PurePosixPath(name).name, web.hosts.authorization(url), size if is_own else None)


class AliasedVersion(msgspec.Struct, frozen=True):
    """The version of a registered model that an alias means."""

    model: str
    version: str
    tags: dict[str, str]

    def reference(self, alias: str) -> str:
        """Return the reference of this very version, which does not move, from the alias's."""
        return f"mlflow://{_parts(alias)['host']}/{quote(self.model, safe='')}/{quote(self.version, safe='')}"


def aliased(alias: str, web: Web) -> AliasedVersion | None:
    """Return what mlflow://HOST/MODEL@ALIAS means; None where the server knows no such model or alias."""
    parts = _parts(alias)
    model = unquote(parts["model"])
    query = urlencode({"name": model, "alias": unquote(parts["alias"])})
    url = f"{web.hosts.base_url(parts['host'])}{_API}/registered-models/alias?{query}"
    with web.open(url, web.hosts.authorization(url)) as response:
        if response.status_code in _UNKNOWN:
            return None
        require_good(response)
        found = decoded(read_bounded(response, _MOST_BYTES), _TaggedAlias, url, _ANSWER).model_version
    return AliasedVersion(model, str(found.version), {tag.key: tag.value for tag in found.tags})


def write_tag(alias: str, tag: tuple[str, str, str], web: Web) -> None:
    """Set a tag (version, key, value) of a version of the alias's model. Raises as `Web.post`."""
    parts, (version, key, value) = _parts(alias), tag
    content = {"name": unquote(parts["model"]), "version": version, "key": key, "value": value}
    web.post(f"{web.hosts.base_url(parts['host'])}{_API}/model-versions/set-tag", msgspec.json.encode(content))


def _parts(alias: str) -> re.Match[str]:
    parts = _REFERENCE.fullmatch(alias)
    if parts is None or parts["alias"] is None:
        raise ModelError("source_refused", f"{alias}: expected mlflow://HOST/MODEL@ALIAS")
    return parts


def _split(uri: str, wanted: Wanted) -> tuple[str, str]:
    """Return scheme and folder of a model's artifacts. Raises ModelError for a text that is no URL."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise ModelError("source_refused", f"{wanted.reference}: the server sent an address that is none") from None
    return parts.scheme, parts.path.strip("/")


def _model_file(web: Web, proxy: str, root: str, wanted: Wanted) -> tuple[str, int | None]:
    found = _ask(web, proxy, _Folder, path=root).files
    models = [one for one in found if PurePosixPath(one.path).suffix in SUFFIXES and not one.is_dir]
    if len(models) != 1:
        names = ", ".join(one.path for one in found) or "nothing"
        what = f"found {names}, expected one file that ends in {', '.join(SUFFIXES)}"
        raise ModelError("not_found" if not models else "source_refused", f"{wanted.reference}: {what}")
    return PurePosixPath(models[0].path).name, models[0].file_size


def _ask(web: Web, url: str, kind: type[_T], **query: str) -> _T:
    return decoded(web.get(f"{url}?{urlencode(query)}"), kind, url, _ANSWER)
