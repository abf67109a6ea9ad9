"""Answer of a resolver."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Located:
    """The place of one file's bytes."""

    place: str | Path = field(repr=False)
    """http(s) URL, or a path on this device; a presigned URL is a secret."""
    name: str
    """File name, whose suffix tells the format."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Headers for the URL's host alone; they hold its credentials."""
    size_bytes: int | None = None
    """Size where the source promises one."""


def name_of(url: str) -> str:
    """Return the file name that a URL's path ends in."""
    return PurePosixPath(unquote(urlsplit(url).path)).name
