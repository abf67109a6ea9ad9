"""Removal of secrets from texts for logs and reports."""

import re
from typing import Final

# Of the known schemes a slash or the colon may be missing, because a mistyped URL is shown in an error.
_SCHEME: Final = r"(?:\w://|\b(?:rtspu?s?|rtmp[est]{0,2}|https?|srt|mqtts?)(?::/{0,2}|//))"
_USER: Final = re.compile(rf"({_SCHEME})\S*@", re.IGNORECASE)
_QUERY: Final = re.compile(rf"({_SCHEME}[^\s?]*\?)\S*", re.IGNORECASE)
_URL: Final = re.compile(rf"{_SCHEME}\S+", re.IGNORECASE)
_STRONG: Final = (
    r"pass(?:w(?:or)?d|phrase|code|wort)?|p(?:ass)?wd?|psw|pswd|psd|pw|passw|loginpass?"
    r"|secret|(?:access)?token|jwt|credentials?|(?:api|access|secret|stream)[_-]?key"
)
_KEY: Final = rf"(?:user|login|admin|access|auth|pub)?(?:{_STRONG})|cookies?|authorization"
# A value in quotes is hidden whole, also where it is cut. The quotes may be escaped, because the text may lie in a
# quoted one; an array of GStreamer is <"a","b">, and (string) a type before its value.
_QUOTED: Final = (
    r"\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?"
    r"|(?P<mark>\\+[\"'])(?:(?!(?P=mark)).)*(?:(?P=mark))?"
    r"|<\s*\\*[\"'][^>]*>?"
)
# Because cameras also take the password in the path: /user=admin_password=x_channel=1.
_VALUE: Final = rf"(?:\(\w+\)\s*)?(?:{_QUOTED}|(?:(?:basic|bearer|digest)\s+)?(?:\\\s|[^\s&\"])+)"
_KEYED: Final = re.compile(rf"(?<![A-Za-z])({_KEY})(\s*(?:=|%3D)\s*){_VALUE}", re.IGNORECASE | re.DOTALL)
_HEADER: Final = re.compile(r"(authorization:\s*)(?:basic|bearer|digest)\s+[^\s\"']+", re.IGNORECASE)
_IN_URL: Final = re.compile(
    rf"(?<![A-Za-z])((?:{_STRONG})[=/:]|(?:key|auth|sid|sig|signature|j?session|j?sessionid|(?<!\d)p)=)[^\s&\"]+",
    re.IGNORECASE,
)


def secrets_of(url: str) -> list[str]:
    """Return the secrets that a URL holds as `name=value` in its path or query, as they are written there."""
    return [found[0][len(found[1]) :] for found in _IN_URL.finditer(url)]


def redact(text: str) -> str:
    """Hide users, passwords and tokens in `text`, both in URLs and as `name=value`.

    Greedy up to the last @, because passwords are often pasted with unescaped / and @; queries are hidden whole.
    """
    text = _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))
    text = _URL.sub(lambda url: _IN_URL.sub(r"\1***", url[0]), text)
    return _HEADER.sub(r"\1***", _KEYED.sub(r"\1\2***", text))
