"""mlflow://HOST/MODEL@ALIAS or mlflow://HOST/MODEL/VERSION: a model of an MLflow registry, without its package.

The protocol: https://mlflow.org/docs/latest/api_reference/rest-api.html. The artifact proxy serves Range and ETag.
"""

import json
import re
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from agent.messages.errors import ModelError
from agent.models.catalog_entry import SUFFIXES
from agent.supply.sources.located import Located
from agent.supply.sources.web import Web
from agent.supply.wanted import Wanted

_REFERENCE: Final = re.compile(
    r"mlflow://(?P<host>[^/@]+)/(?P<model>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))"
)
_API: Final = "/api/2.0/mlflow"
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts"
_PROXIED: Final = "mlflow-artifacts"


def resolve(wanted: Wanted, web: Web) -> Located:
    """Ask for the version that an alias means, for its folder, and for the one model file in that."""
    parts = _REFERENCE.fullmatch(wanted.reference)
    if parts is None:
        expected = "mlflow://HOST/MODEL@ALIAS or mlflow://HOST/MODEL/VERSION"
        raise ModelError("source_refused", f"{wanted.reference}: expected {expected}")
    base, model = web.hosts.base_url(parts["host"]), unquote(parts["model"])
    version = parts["version"]
    if version is None:
        found = _ask(web, f"{base}{_API}/registered-models/alias", name=model, alias=unquote(parts["alias"]))
        version = str(_text(found.get("model_version"), "version", wanted))
    answer = _ask(web, f"{base}{_API}/model-versions/get-download-uri", name=model, version=unquote(version))
    folder = urlsplit(str(_text(answer, "artifact_uri", wanted)))
    if folder.scheme != _PROXIED:
        wanted_place = "the server's own proxy (mlflow server --serve-artifacts)"
        what = f"its artifacts are at {folder.scheme}://, expected {wanted_place}"
        raise ModelError("source_refused", f"{wanted.reference}: {what}")
    root = folder.path.strip("/")
    own, size = _model_file(web, f"{base}{_PROXY}", root, wanted)
    name = wanted.name_beside(own)
    url = f"{base}{_PROXY}/{quote(f'{root}/{name}')}"
    is_own = name == own
    return Located(url, PurePosixPath(name).name, web.hosts.authorization(url), size if is_own else None)


def _model_file(web: Web, proxy: str, root: str, wanted: Wanted) -> tuple[str, int | None]:
    files = _ask(web, proxy, path=root).get("files")
    found = [one for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    models = [one for one in found if PurePosixPath(str(one.get("path"))).suffix in SUFFIXES and not one.get("is_dir")]
    if len(models) != 1:
        names = ", ".join(str(one.get("path")) for one in found) or "nothing"
        what = f"found {names}, expected one file that ends in {', '.join(SUFFIXES)}"
        raise ModelError("not_found" if not models else "source_refused", f"{wanted.reference}: {what}")
    name = PurePosixPath(str(models[0]["path"])).name
    size = models[0].get("file_size")
    return name, size if isinstance(size, int) else None


def _ask(web: Web, url: str, **query: str) -> dict[str, Any]:
    try:
        value = json.loads(web.get(f"{url}?{urlencode(query)}"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelError("source_refused", f"{url}: found no JSON object, expected an MLflow server's answer")
    return value


def _text(value: object, key: str, wanted: Wanted) -> object:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, (str, int)):
        raise ModelError("source_refused", f"{wanted.reference}: the server's answer has no {key}")
    return found
