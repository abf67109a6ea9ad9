"""Removal of secrets from everything that goes into the archive: by pattern, and by the known values."""

import re
from collections.abc import Iterable
from typing import Any, Final

from agent.redact import redact

HIDDEN: Final = "***"
_SHORTEST: Final = 4
"""Shortest secret to search for, because a shorter one would blank half of every text; patterns may hide it."""
_LONGEST_LINE: Final = 4096
"""Longer lines are cut, because the time of the patterns grows with the square of a line's length."""
# With a look behind, or a long run without a separator would be read anew from each of its letters.
_URL: Final = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>]+)")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_NAME: Final = (
    r"[\w.-]*(?:pass(?!ed|ive|ing)|pwd|psw|secret|token|(?:api|access|private|stream)[_-]?key|credential|auth"
    r"|kennwort|contrase[nñ]a|clave|senha|heslo|has[lł]o|wachtwoord|l[oö]senord|(?<![a-z])mdp(?![a-z])"
    r"|cookie|sess|jwt|bearer|signature|psk|(?<![a-z])(?:pw|sid|sig)(?![a-z]))[\w.-]*"
)
_SECRET_NAME: Final = re.compile(rf"(?!.*_file$)(?:{_NAME})", re.IGNORECASE)
_HEADER: Final = re.compile(r"((?:proxy-)?authorization|(?:set-)?cookie2?)(\\*[\"']?\s*[:=]\s*).*", re.IGNORECASE)
_QUOTED: Final = r"\\*\"(?:\\.|[^\"\\])*\\*\"?|\\*'(?:\\.|[^'\\])*\\*'?"
_PAIR: Final = re.compile(
    rf"(?<![\w.-])(?!\w*_file\b)({_NAME})(\\*[\"']?\s*(?:=|%3D)\s*)(?:{_QUOTED}|[^\s&]+)", re.IGNORECASE
)
_TOLD: Final = re.compile(rf"(?<![\w.-])(?!\w*_file\b)({_NAME})(\\*[\"']?\s*:\s*)(?:{_QUOTED}|[^\n]+)", re.IGNORECASE)
_SCHEMES: Final = re.compile(r"\b(basic|bearer|digest)\s+(?!auth)[A-Za-z0-9+/=_.~-]{6,}", re.IGNORECASE)
_JWT: Final = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
_PEM: Final = re.compile(r"-----BEGIN [^-]+-----.*?(?:-----END [^-]+-----|\Z)", re.DOTALL)


def is_secret_name(name: str) -> bool:
    """Return True for a setting or variable that holds a secret itself, not the path of a secret's file."""
    return _SECRET_NAME.fullmatch(name) is not None


def plain_url(match: re.Match[str]) -> str:
    """Return a URL's scheme, host and port alone; only the scheme where the host cannot be told for sure."""
    scheme, rest = match[1], match[2].rstrip(",;:.)")
    tail = match[2][len(rest) :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    user, at, host = authority.rpartition("@")
    if "@" in behind or not _HOST.fullmatch(host):
        return f"{scheme}://{HIDDEN}{tail}"
    hidden_user = f"{HIDDEN}@" if at and user else ""
    return f"{scheme}://{hidden_user}{host}{'/' + HIDDEN if behind not in {'', '/'} else ''}{tail}"


class Scrubber:
    """Scrubber of texts, which hides patterns and the given secrets; pure."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: Final = sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True)
        self._of_lines: Final = [one for one in self._secrets if "\n" in one]

    def text(self, text: str) -> str:
        """Return `text` without secrets, and without the ends of very long lines."""
        for secret in self._of_lines:
            text = text.replace(secret, HIDDEN)
        return "\n".join(self._line(line[:_LONGEST_LINE]) for line in _PEM.sub(HIDDEN, text).split("\n"))

    def _line(self, line: str) -> str:
        line = redact(self._known(_URL.sub(plain_url, line)))
        line = _HEADER.sub(rf"\1\2{HIDDEN}", line)
        line = _TOLD.sub(rf"\1\2{HIDDEN}", _PAIR.sub(rf"\1\2{HIDDEN}", line))
        # again, because a pattern may have joined what stood around it
        return self._known(_JWT.sub(HIDDEN, _SCHEMES.sub(rf"\1 {HIDDEN}", line)))

    def _known(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def value(self, value: Any) -> Any:  # noqa: ANN401 - what JSON and TOML can hold
        """Return a document without secrets; all values of keys whose name means a secret are hidden."""
        if isinstance(value, dict):
            return {
                self.text(str(key)): HIDDEN if is_secret_name(str(key)) and one is not None else self.value(one)
                for key, one in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(one) for one in value]
        return self.text(value) if isinstance(value, str) else value
