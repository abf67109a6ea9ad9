"""An opened source: where its bytes begin, and what they are of."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.files import open_regular
from agent.messages.errors import ModelError
from agent.supply.errors import SourceError
from agent.supply.sources.located import Located
from agent.supply.sources.web import Web, require_good

if TYPE_CHECKING:
    import httpx

_CHUNK_BYTES: Final = 128 << 10
_RANGE: Final = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_PARTIAL: Final = 206
_BEYOND: Final = 416


@dataclass(frozen=True)
class Opened:
    """Bytes of a file from `offset` on."""

    offset: int
    size: int | None
    """Size of the whole file in bytes; None where the source does not say it."""
    tag: str
    """Names this content of the file; empty where the source has no name for it."""
    chunks: Iterator[bytes]
    name: str = ""
    """File name at the source, whose suffix tells the format."""


@contextmanager
def opened(located: Located, web: Web, offset: int, tag: str) -> Iterator[Opened]:
    """Open a source at `offset`, if its content is still that of `tag`; else at 0.

    Raises SourceError where it cannot be reached, and ModelError where it is refused.
    """
    if isinstance(located.place, Path):
        with _opened_file(located.place, offset, tag) as found:
            yield found
        return
    headers = dict(located.headers)
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if tag:
            headers["If-Range"] = tag
    with web.open(located.place, headers) as response:
        yield replace(_answered(response, located, offset, tag), name=located.name)


@contextmanager
def _opened_file(path: Path, offset: int, tag: str) -> Iterator[Opened]:
    try:
        with open_regular(path) as file:
            info = os.fstat(file.fileno())
            found = f"{info.st_size}-{info.st_mtime_ns}"
            start = offset if found == tag and offset <= info.st_size else 0
            file.seek(start)
            yield Opened(start, info.st_size, found, iter(lambda: file.read(_CHUNK_BYTES), b""), path.name)
    except FileNotFoundError:
        raise ModelError("not_found", f"{path}: no such file") from None
    except PermissionError:
        raise ModelError(
            "source_refused", f"{path}: found no permission, expected a file that the agent may read"
        ) from None
    except IsADirectoryError as error:
        raise ModelError("source_refused", f"{path}: {error.strerror}") from None
    except OSError as error:
        if error.filename not in {None, str(path)}:
            raise
        raise SourceError("cut_off", f"{path}: {error.strerror or error}") from None


def _answered(response: "httpx.Response", located: Located, offset: int, tag: str) -> Opened:
    if response.status_code == _BEYOND and offset:
        size = _range(response)[1]
        whole = size == offset
        return Opened(offset if whole else 0, size if whole else None, tag if whole else "", iter(()))
    require_good(response)
    found = _tag(response)
    if response.status_code == _PARTIAL:
        start, size = _range(response)
        same = start == offset and (not tag or not found or found == tag)
        if not same:  # its bytes fit nothing that is here, so the next attempt asks for all
            return Opened(0, None, "", iter(()))
        return Opened(offset, size or located.size_bytes, found or tag, response.iter_raw())
    length = response.headers.get("content-length", "")
    size = int(length) if _LENGTH.fullmatch(length) else located.size_bytes
    return Opened(0, size, found, response.iter_raw())


def _range(response: "httpx.Response") -> tuple[int | None, int | None]:
    """Return first byte and size that Content-Range tells; None for what it does not."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None:
        return None, None
    return (int(found[1]) if found[1] else None, int(found[2]) if found[2] != "*" else None)


def _tag(response: "httpx.Response") -> str:
    """Return a validator that If-Range takes (RFC 9110, 13.1.5): a strong ETag, else the time of the last change."""
    etag = str(response.headers.get("etag", ""))
    if etag.startswith('"') and etag.isascii():
        return etag
    return str(response.headers.get("last-modified", ""))
