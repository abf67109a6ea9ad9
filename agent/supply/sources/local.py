"""Paths, file:// and mounts: the bytes are read where they lie."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent.messages.errors import ModelError
from agent.supply.sources.located import Located
from agent.supply.sources.web import Web
from agent.supply.wanted import Wanted


def resolve(wanted: Wanted, _web: Web) -> Located:
    """Return the path of a file on this device; touches no disk, because a mount may hang."""
    reference = wanted.reference
    if "://" in reference:
        parts = urlsplit(reference)
        if parts.netloc not in {"", "localhost"}:
            raise ModelError("source_refused", f"{reference}: found a host, expected file:///PATH of a mount here")
        reference = unquote(parts.path)
    path = Path(wanted.name_beside(reference))
    if not path.is_absolute() or "\0" in reference:
        raise ModelError("source_refused", f"{reference}: expected an absolute path")
    return Located(path, path.name)
