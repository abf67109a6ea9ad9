"""Secrets that the configuration, its files and the environment hold, in each form that a text may show them in."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from agent.support.scrubber import is_secret_name

CREDENTIALS: Final = ("/etc/changeover/credentials", "/run/credentials/changeover.service")
_LARGEST_BYTES: Final = 64 << 10
_SECRET_FILES: Final = ("password_file", "key_file", "token_file", "access_key_file", "secret_key_file")
_LONG: Final = 8
"""Shortest user name that is hidden, because a shorter one may be a common word."""
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']+")
_VALUE: Final = re.compile(r"=(?![A-Za-z][A-Za-z0-9+.-]*://)([^&/?#\s\"']+?)(?=_[A-Za-z]+=|[&/?#\s\"']|$)")
"""Values in a URL's query, and in a path such as /user=admin_password=x_channel=1."""
_PROPERTY: Final = re.compile(r"[\w-]+\s*=\s*(\"(?:\\.|[^\"\\])*\"|'[^']*'|\S+)")
_VARIABLE: Final = re.compile(
    r"pass|secret|token|(?:api|access|private)_?key|credential|cookie|jwt|login", re.IGNORECASE
)
_HARMLESS: Final = re.compile(r"\d+(?:[./x]\d+)?|true|false|tcp|udp|BGR|I420|NV12|/dev/\S+", re.IGNORECASE)


def of_document(value: Any, base: Path, key: str = "") -> Iterator[str]:  # noqa: ANN401 - what TOML can hold
    """Yield the secrets of a document's values, and of the files that it names; relative paths lie in `base`."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from of_document(one, base, str(name))
    elif isinstance(value, list):
        for one in value:
            yield from of_document(one, base, key)
    elif isinstance(value, str):
        yield from of_text(value)
        if is_secret_name(key) or (key == "username" and len(value) >= _LONG):
            yield value
        if key in _SECRET_FILES and not value.startswith("credential:"):
            yield from of_file(base / value)
    elif value is not None and is_secret_name(key):
        yield str(value)


def of_text(text: str) -> Iterator[str]:
    """Yield the secrets of a value: of URLs in it, and of a pipeline's properties."""
    for url in _URL.findall(text):
        yield from _of_url(url)
    if "://" in text:
        yield from _VALUE.findall(text)
    if text.startswith("gst:"):
        for value in _PROPERTY.findall(text):
            plain = value.strip("\"'")
            if not _HARMLESS.fullmatch(plain):
                yield plain


def _of_url(url: str) -> Iterator[str]:
    rest = url.partition("://")[2]
    user_info = rest.rpartition("@")[0]
    if user_info:
        user, _, password = user_info.partition(":")
        yield password
        if len(user) >= _LONG:
            yield user
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if len(parts.path) >= _LONG:
        yield parts.path
    for pair in re.split(r"[&;]", parts.query):
        yield pair.partition("=")[2] or pair
    yield parts.fragment


def of_file(path: Path) -> Iterator[str]:
    """Yield the whole text of a secret's file, and each of its lines; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_BYTES).decode("utf-8", "replace").lstrip("\ufeff")
    except OSError:
        return
    yield text.strip()
    yield from (line.strip() for line in text.splitlines())


def of_folder(folder: Path) -> Iterator[str]:
    """Yield the secrets of a folder of credentials."""
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return
    for path in files:
        yield from of_file(path)


def of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield secrets of variables: values of names such as PASSWORD, secrets in URLs, and the credentials folder's."""
    for name, value in environ.items():
        if _VARIABLE.search(name) and not name.endswith(("_DIRECTORY", "_FILE", "_PATH", "_SOCK")):
            yield value
        yield from of_text(value)
        folder = Path(value) if name == "CREDENTIALS_DIRECTORY" else None
        if folder is not None:
            yield from of_folder(folder)


def forms(secrets: Iterator[str], usernames: tuple[str, ...]) -> Iterator[str]:
    """Yield each secret plain, percent-encoded and decoded, JSON-escaped, in base64, and in logins of `usernames`."""
    for secret in secrets:
        if not secret.strip():
            continue
        plain = unquote(secret)
        yield from (secret, plain, quote(plain, safe=""), quote(plain), quote_plus(plain))
        yield json.dumps(plain)[1:-1]
        for user in usernames:
            yield base64.b64encode(f"{user}:{plain}".encode()).decode()
        yield base64.b64encode(plain.encode()).decode()


def of_lines(text: str) -> dict[str, list[str]]:
    """Return the values of a broken TOML file by key, as far as its lines show them."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key.strip().strip("\"'"), []).append(value.strip().strip("\"'"))
    return found
