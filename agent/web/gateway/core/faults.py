"""Refusals of requests; each transport has its own status for each kind."""

import re
from typing import Final

from agent.messages.errors import ChangeoverError
from agent.messages.web.control import Outcome

_FOLDERS: Final = re.compile(r"(?<![\w./:])(?:/[^\s:'\"/]+)+/(?=[^\s:'\"/])")
"""Folders of an absolute path, up to the name of its file."""


class RequestError(ChangeoverError):
    """A request is refused; `retry_s` says when it may succeed, None where a retry cannot help."""

    def __init__(
        self, kind: Outcome, detail: str, *, retry_s: float | None = None, phase: str = "", eta_ms: float | None = None
    ) -> None:
        """Store the refusal; `phase` and `eta_ms` tell of a model that is being loaded."""
        super().__init__(detail)
        self.kind: Final = kind
        self.retry_s: Final = retry_s
        self.phase: Final = phase
        self.eta_ms: Final = eta_ms


def invalid(detail: str) -> RequestError:
    """Return the refusal of a request that names `detail` wrongly."""
    return RequestError("invalid", detail)


def not_found(name: str) -> RequestError:
    """Return the refusal of what does not exist, or must not be seen to."""
    return RequestError("not_found", f"there is no {name!r}")


def busy(detail: str, retry_s: float = 1.0) -> RequestError:
    """Return the refusal of a request for which there is no room now."""
    return RequestError("busy", detail, retry_s=retry_s)


def without_folders(detail: str) -> str:
    """Return the words of worker or control for a client, which learns the names of files and not where they lie."""
    return _FOLDERS.sub("", detail)
