"""Types of the values that say where models come from, and whom to trust with them."""

import base64
import binascii
import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from agent.files import expanded, open_regular
from agent.settings import fields
from agent.settings.units import parse_clock

REMOTE: Final = ("http", "https", "s3", "oci", "mlflow")
"""Schemes of references to files that are fetched into the store."""
_KEY_BYTES: Final = 32
_MINISIGN: Final = b"Ed"
_MINISIGN_BYTES: Final = 2 + 8 + _KEY_BYTES
_PUBLIC_KEY: Final = (
    "a public key as `minisign` prints it (56 characters), the path of its file NAME.pub, or an Ed25519 key in base64 "
    "or hexadecimal"
)
_KEY_FILE_BYTES: Final = 4096
_HOST: Final = "a host as references name it, HOST or HOST:PORT"
_HOST_FORM: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_WINDOW: Final = 'two times of day such as "22:00-05:00", or "" for any time'
_ENDPOINT: Final = "http(s)://HOST[:PORT] of the service, without a user, a path or a query"
_INDEX: Final = "an https://, http://, s3:// or file:// URL, or a path, of the index's folder"
_ALIAS: Final = 'mlflow://HOST/MODEL@ALIAS, MODEL as models.toml names it, or "" for none'
_ALIAS_FORM: Final = re.compile(r"mlflow://[^/@\s]{1,255}/[A-Za-z0-9._-]{1,64}@[^/@\s]{1,255}")
_LONGEST: Final = 2048


def remote_scheme(text: str) -> str | None:
    """Return the scheme of a reference to a file that must be fetched; None for a path and for `file://`."""
    scheme, separator, _ = text.partition("://")
    return scheme.lower() if separator and scheme.lower() in REMOTE else None


def check_remote(text: str, expected: str) -> None:
    """Raise ValueError, with what was expected, for a reference without a host or path, or with credentials in it."""
    parts = urlsplit(text)
    try:
        is_sound = parts.port != 0 and bool(parts.hostname) and len(parts.path) > 1
    except ValueError:
        is_sound = False
    if not is_sound or not text.isprintable() or any(one.isspace() for one in text) or len(text) > _LONGEST:
        raise ValueError(expected)
    if "@" in parts.netloc:
        raise ValueError(f'{expected}, without a user: credentials stand in files, [supply.host."{parts.hostname}"]')


def local_path(text: str, info: ValidationInfo, expected: str) -> Path:
    """Return the absolute path of a path or `file://` URL. Raises ValueError for any other URL."""
    scheme, separator, _ = text.partition("://")
    if "\0" in text or (separator and (scheme != "file" or urlsplit(text).netloc not in {"", "localhost"})):
        raise ValueError(expected)
    path = Path(unquote(urlsplit(text).path) if separator else text)
    base = info.context.get("base") if isinstance(info.context, dict) else None
    return Path(base or ".", expanded(path)).absolute()


def _public_key(value: str, info: ValidationInfo) -> str:
    if value.endswith(".pub"):
        value = _key_in(local_path(value, info, _PUBLIC_KEY))
    try:
        raw = bytes.fromhex(value) if len(value) == 2 * _KEY_BYTES else base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    is_minisign = len(raw) == _MINISIGN_BYTES and raw.startswith(_MINISIGN)
    if not is_minisign and len(raw) != _KEY_BYTES:
        raise ValueError(_PUBLIC_KEY)
    return value


def _key_in(file: Path) -> str:
    """Return the key of a file as `minisign -G` writes it. Raises ValueError."""
    try:
        with open_regular(file) as stream:
            return stream.read(_KEY_FILE_BYTES).decode().strip().rpartition("\n")[2].strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{_PUBLIC_KEY}; {file}: {str(why).lower()}") from None


def _host(value: str) -> str:
    if not _HOST_FORM.fullmatch(value):
        raise ValueError(_HOST)
    return value.lower()


def window_of(text: str) -> tuple[dt.time, dt.time] | None:
    """Return begin and end of a download window; None for "", which is any time. Raises ValueError."""
    if not text:
        return None
    first, dash, last = text.partition("-")
    try:
        begin, end = parse_clock(first.strip()), parse_clock(last.strip())
    except ValueError:
        raise ValueError(_WINDOW) from None
    if not dash or begin == end:
        raise ValueError(_WINDOW)
    return begin, end


def is_open(window: tuple[dt.time, dt.time], at: dt.time) -> bool:
    """Return True for a time of day in a download window, which may span midnight."""
    begin, end = window
    return begin <= at < end if begin < end else at >= begin or at < end


def _window(value: str) -> str:
    window_of(value)
    return value


def _endpoint(value: str) -> str:
    if not value:
        return value
    check_remote(f"{value.rstrip('/')}/x", _ENDPOINT)
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(_ENDPOINT)
    return value.rstrip("/")


def _index(value: str, info: ValidationInfo) -> str:
    if not value:
        return value
    if remote_scheme(value) in {"http", "https", "s3"}:
        check_remote(f"{value.rstrip('/')}/x", _INDEX)  # because the folder may be all that a server or bucket has
        return value.rstrip("/")
    return f"file://{quote(str(local_path(value, info, _INDEX)))}"


def _alias(value: str) -> str:
    if not value:
        return value
    if remote_scheme(value) != "mlflow" or not _ALIAS_FORM.fullmatch(value):
        raise ValueError(_ALIAS)
    return value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Host = Annotated[str, AfterValidator(_host)]
Window = Annotated[str, AfterValidator(_window)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Alias = Annotated[str, AfterValidator(_alias)]
IndexUrl = Annotated[str, AfterValidator(_index)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
OptionalFile = Annotated[fields.FilePath | None, BeforeValidator(_none_if_empty)]
OptionalSecret = Annotated[fields.SecretPath | None, BeforeValidator(_none_if_empty)]
