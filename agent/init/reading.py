"""Reads each answer as the configuration would, and refuses what the configuration would refuse."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import TypeAdapter, ValidationError

from agent.files import expanded, file_sha256
from agent.init.answers import STREAM, Product
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.models.catalog_entry import SUFFIXES
from agent.models.keeping.copying import inspect_source
from agent.redact import redact
from agent.settings import StreamSettings, fields, findings

_VARIANT, _VERSION = "n", "1"
_WANTED: Final = "CODE=FILE or CODE=MODEL such as bottle-500=cap-check.onnx"


def read_line(text: str) -> str:
    """Return a line's id. Raises MistakeError for an invalid one."""
    return str(_valid(fields.Id, text))


def read_broker(text: str) -> str:
    """Return a broker's URL; a bare host gets its scheme. Raises MistakeError for an invalid one."""
    return str(_valid(fields.BrokerUrl, text if "://" in text or text == "embedded" else f"mqtt://{text}"))


def read_camera(text: str) -> str:
    """Return a source as the configuration takes it; a file's path becomes absolute. Raises MistakeError if invalid."""
    row = {"id": STREAM, "line": "line-1", "source": text}
    try:
        source = StreamSettings.model_validate(row, context={"base": Path.cwd()}).source
    except ValidationError as error:
        (found, *_) = findings(error, StreamSettings)
        raise MistakeError(f"found {found.found}, expected {found.expected}") from None
    return source


def user_without_password(source: str) -> str | None:
    """Return the user of a camera's URL that names no password; None for every other source."""
    if "://" not in source or source.startswith("gst:"):
        return None
    parts = urlsplit(source)
    return parts.username if parts.username and parts.password is None else None


def has_password(source: str) -> bool:
    """Return True for a camera's URL with a password before its host."""
    user = source.partition("://")[2].rpartition("@")[0]
    return not source.startswith("gst:") and ":" in user


def with_password(source: str, password: str) -> str:
    """Return a camera's URL with the password of its user, percent-encoded."""
    parts = urlsplit(source)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def read_product(text: str, catalog: Catalog) -> Product:
    """Return a product of CODE=FILE, CODE=MODEL or CODE=MODEL=FILE. Raises MistakeError for an invalid one.

    A file is checked as `models add` checks it; a model without a file must be in the catalog.
    """
    code, separator, rest = text.partition("=")
    if not separator or not rest.strip():
        raise MistakeError(f'found "{text}", expected {_WANTED}')
    code = str(_valid(fields.Product, code.strip()))
    first, separator, file = rest.strip().partition("=")
    reference = ModelReference.parse(first)
    if separator and reference is not None:
        return _of_file(code, _expanded(file), catalog, reference)
    path = _expanded(rest.strip())
    if path.exists() or "/" in rest or path.suffix.lower() in SUFFIXES:
        return _of_file(code, path, catalog, None)
    if reference is None or catalog.find(reference, _VARIANT) is None:
        known = f"; {catalog.file} has {', '.join(catalog.names())}" if catalog.versions else ""
        raise MistakeError(f'found "{rest}", which is no file and no model of the catalog, expected {_WANTED}{known}')
    return Product(code, reference, None)


def _expanded(path: str) -> Path:
    try:
        return expanded(Path(path))
    except ValueError as error:
        raise MistakeError(f'found "{path}", expected {error}') from None


def _of_file(code: str, path: Path, catalog: Catalog, reference: ModelReference | None) -> Product:
    if not path.exists():
        raise MistakeError(f"no file {path}: expected the model's file, {', '.join(SUFFIXES)}")
    file = inspect_source(path)
    name = reference.name if reference else re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)[:64] or "model"
    variant = (reference and reference.variant) or _VARIANT
    version = (reference and reference.version) or _VERSION
    full = ModelReference(name, variant, version)
    there = next((one for one in catalog.versions if one.reference == str(full)), None)
    if there is None:
        return Product(code, full, path)
    if not _is_same(there, file):
        wanted = f"another release, such as {code}={name}:{variant}@{version}-2={path}"
        raise MistakeError(f"{full} is in {catalog.file} already with another file, expected {wanted}")
    return Product(code, full, None)


def _is_same(version: ModelVersion, file: Path) -> bool:
    return file_sha256(file) == version.sha256


def _valid(kind: Any, value: object) -> object:  # noqa: ANN401 - an annotated type, which has no type of its own
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        expected = details.get("ctx", {}).get("error", details["msg"])
        raise MistakeError(f'found "{redact(str(value))}", expected {expected}') from None
