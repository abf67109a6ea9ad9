"""Types of configuration values with their validators; a ValueError names what was expected."""

import datetime as dt
import re
import shlex
import zoneinfo
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BeforeValidator, InstanceOf, PlainSerializer, ValidationInfo

from agent.files import expanded
from agent.messages.references import ModelReference
from agent.messages.texts import numbers
from agent.messages.texts.camera_names import is_camera, split
from agent.settings.units import MemoryBudget, parse_budget, parse_clock, parse_days, parse_duration, parse_size

ID: Final = "an id of 1 to 64 letters, digits, dots, dashes or underscores"
REFERENCE: Final = "a model reference NAME[:VARIANT][@VERSION]"
PRODUCT: Final = 'a product of 1 to 64 printable characters, other than "0"'
_PLAIN_PATH: Final = "the path alone, without file://, such as /var/lib/changeover/clip.mp4"
SOURCE: Final = "an rtsp:// or http:// URL, /dev/videoN, csi:N, gst:PIPELINE, a file or a folder"
BROKER: Final = 'mqtt://HOST[:PORT], mqtts://HOST[:PORT] (credentials go into username and password_file) or "embedded"'
CREDENTIALS: Final = "/etc/changeover/credentials"
"""Folder of the files `credential:NAME` where systemd passes none."""
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VARIANT: Final = "a variant such as n, s, m-int8: 1 to 64 letters, digits, dots, dashes or underscores"
_COMPUTE: Final = re.compile(r"(auto|cpu)|(cuda|tensorrt)(?::([0-9]{1,3}))?")
_JSON_PATH: Final = re.compile(r"""\$(\.[^\s.\[\]'"*]+|\[\d+\]|\['[^']+'\]|\["[^"]+"\]|\[\?[^\[\]]+\])*""")
_FILTER: Final = "[?"
_STREAM_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
_UNENCODED: Final = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:%-]|%(?![0-9A-Fa-f]{2})")
_HOST_AFTER: Final = re.compile(r"@(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?(?:[/?]|$)")
_OF_WINDOWS: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ESCAPES: Final = "\t\n\r\b\f"
_PATH_HERE: Final = (
    "a path on this device such as /var/lib/changeover/clip.mp4, with / "
    "(a path of Windows means nothing here, and \\t or \\n between double quotes is a control character)"
)
_RAW_IN_VALUE: Final = re.compile(r"[?=].*#")
"""An unencoded # in the value of a URL's parameter, which would end the value."""
_PLAIN_HOST: Final = re.compile(r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9A-Fa-f:.]+\]):\d+")
_TOPIC_BYTES: Final = 65535


def canonical_product(value: object) -> str | None:
    """Return the canonical product code of a key or payload, such as `17` for `17.0`; None for an invalid one.

    `"0"` is returned unchanged: it means "not ready", and only a configuration may not use it.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    try:
        return numbers.canonical_product(value.strip())
    except ValueError:
        return None


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(ID)
    return value


def _variant(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(_VARIANT)
    return value


def _product(value: object) -> str:
    product = canonical_product(value)
    if product is None or product == "0":
        raise ValueError(PRODUCT)
    return product


def _reference(value: object) -> ModelReference:
    reference = value if isinstance(value, ModelReference) else None
    if isinstance(value, str):
        reference = ModelReference.parse(value)
    if reference is None:
        raise ValueError(REFERENCE)
    return reference


def _absolute(value: Path, info: ValidationInfo) -> Path:
    base = info.context.get("base") if isinstance(info.context, dict) else None
    return Path(base or ".", expanded(value)).absolute()


def _secret(value: Path, info: ValidationInfo) -> Path:
    """Return the path of a file; `credential:NAME` is resolved to systemd's credential folder, else to CREDENTIALS."""
    name = str(value).removeprefix("credential:")
    if name == str(value):
        return _absolute(value, info)
    if not _ID.fullmatch(name):
        raise ValueError('a file, or "credential:NAME" with the name of a file in /etc/changeover/credentials')
    folder = info.context.get("credentials") if isinstance(info.context, dict) else None
    return Path(folder or CREDENTIALS, name)


def _source(value: str, info: ValidationInfo) -> str:
    if value.startswith("gst:"):
        return _pipeline(value)
    scheme, separator, rest = value.partition("://")
    if separator:
        if scheme.lower() == "file":
            raise ValueError(_PLAIN_PATH)
        _check_credentials(rest)
        if scheme.lower() not in _STREAM_SCHEMES or not _host_of(value):
            raise ValueError(SOURCE)
        return value
    if _OF_WINDOWS.match(value) or any(one in value for one in _ESCAPES):
        raise ValueError(_PATH_HERE)
    if not value.strip() or not value.isprintable():
        raise ValueError(SOURCE)
    if is_camera(value):
        camera, _ = split(value)
        if camera.startswith("csi:") and not camera[4:].isdigit():
            raise ValueError(SOURCE)
        return value
    return str(_absolute(Path(value), info))


def _check_credentials(rest: str) -> None:
    """Raise ValueError for credentials that are not percent-encoded; `rest` is a URL without scheme."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user_info, _, host = authority.rpartition("@")
    # Because / ? or # in a password ends the host for a parser: `user:` without a port, and an @ behind.
    cut = ":" in host or rest[len(authority) :].startswith("#")
    if cut and _HOST_AFTER.search(rest, len(authority)) and not _PLAIN_HOST.fullmatch(host):
        user_info = rest.rpartition("@")[0]
    in_values = {"#"} if _RAW_IN_VALUE.search(rest, len(authority)) else set()
    wrong = sorted({*_UNENCODED.findall(user_info), *in_values})
    if wrong:
        how = ", ".join(f"{quote(one, safe='')} for {one if one.strip() else 'a space'}" for one in wrong)
        signs = " and ".join(one if one.strip() else "a space" for one in wrong)
        why = f"since {signs} would end a part of it" if wrong != ["%"] else "since % begins such a code"
        raise ValueError(f"a URL with passwords percent-encoded, {why}: write {how}")


def _pipeline(value: str) -> str:
    try:
        words = shlex.split(value.removeprefix("gst:"))
    except ValueError:
        words = []
    if not words or not value.isprintable():
        raise ValueError(
            'gst:PIPELINE as gst-launch-1.0 takes it, without a sink: "gst:v4l2src ! image/jpeg ! jpegdec"'
        )
    return value


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts.hostname if port != 0 else None


def _broker(value: str) -> str:
    if value == "embedded":
        return value
    scheme = value.partition("://")[0].lower()
    if scheme not in {"mqtt", "mqtts"} or not _host_of(value):
        raise ValueError(BROKER)
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(BROKER)
    return value


def _topic(value: str) -> str:
    levels = value.split("/")
    fits = len(value.encode()) <= _TOPIC_BYTES and not value.startswith("$")
    if not value or not fits or any("+" in level or "#" in level or "\0" in level for level in levels):
        raise ValueError("one topic, without the wildcards + and #")
    return value


def _root(value: str) -> str:
    if not all(value.split("/")):
        raise ValueError('topic levels such as "changeover/v1", none of them empty')
    return _topic(value)


def _json_path(value: str) -> str:
    if not _JSON_PATH.fullmatch(value) or (_FILTER in value and not _compiles(value)):
        raise ValueError('a JSON path such as "$.recipe.id", "$.parts[0]" or "$.tags[?(@.name == \'recipe\')].value"')
    return value


def _compiles(path: str) -> bool:
    # imported here, because only a filter needs more than the pattern above
    from jsonpath import JSONPathError, compile  # noqa: A004, PLC0415 - see above; the library's own name

    try:
        compile(path)
    except JSONPathError:
        return False
    return True


def _timezone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError('a timezone such as "Europe/Berlin" or "UTC"') from None
    return value


def _compute(value: str) -> str:
    """Return the setting in lower case, with the number of the GPU: `cuda:0` for `CUDA`."""
    found = _COMPUTE.fullmatch(value.strip().lower())
    if found is None:
        raise ValueError('"auto", "cpu", "cuda:0" or "tensorrt:0", with the number of the card')
    return found[1] or f"{found[2]}:{int(found[3] or 0)}"


def _bind(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host and port.isdecimal() and int(port) <= 65535):  # noqa: PLR2004 - the largest port
        raise ValueError('HOST:PORT such as "127.0.0.1:9108", or "" for none')
    return value


_COOLEST_C, _HOTTEST_C = 40.0, 120.0


def _hot(value: object) -> float | None:
    if value in {"auto", None}:
        return None
    try:
        celsius = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
    except ValueError:
        celsius = 0.0
    if not _COOLEST_C <= celsius <= _HOTTEST_C:
        raise ValueError(f'"auto", or a temperature of {_COOLEST_C:g} to {_HOTTEST_C:g} degrees Celsius')
    return celsius


def _protocol(value: object) -> object:
    return str(value) if isinstance(value, int) else value


def _clock_text(value: dt.time) -> str:
    return value.isoformat()


Id = Annotated[str, AfterValidator(_id)]
Variant = Annotated[str, AfterValidator(_variant)]
Product = Annotated[str, BeforeValidator(_product)]
Reference = Annotated[InstanceOf[ModelReference], BeforeValidator(_reference), PlainSerializer(str)]
FilePath = Annotated[Path, AfterValidator(_absolute)]
SecretPath = Annotated[Path, AfterValidator(_secret)]
Source = Annotated[str, AfterValidator(_source)]
BrokerUrl = Annotated[str, AfterValidator(_broker)]
Topic = Annotated[str, AfterValidator(_topic)]
Root = Annotated[str, AfterValidator(_root)]
JsonPath = Annotated[str, AfterValidator(_json_path)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Compute = Annotated[str, AfterValidator(_compute)]
Bind = Annotated[str, AfterValidator(_bind)]
AsText = BeforeValidator(_protocol)
Size = Annotated[int, BeforeValidator(parse_size)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
Hot = Annotated[float | None, BeforeValidator(_hot)]
Budget = Annotated[InstanceOf[MemoryBudget], BeforeValidator(parse_budget), PlainSerializer(str)]
Clock = Annotated[dt.time, BeforeValidator(parse_clock), PlainSerializer(_clock_text)]
Days = Annotated[tuple[int, ...], BeforeValidator(parse_days)]
