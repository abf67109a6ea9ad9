"""Removal of secrets from texts for logs and reports."""

import re
from typing import Final

_USER: Final = re.compile(r"(\w://)\S*@")
_QUERY: Final = re.compile(r"(\w://[^\s?]*\?)\S*")
_URL: Final = re.compile(r"\w://\S+")
_STRONG: Final = (
    r"pass(?:w(?:or)?d|phrase|code|wort)?|p(?:ass)?wd?|psw|pswd|pw|passw|loginpass?"
    r"|secret|(?:access)?token|credentials?|(?:api|access|secret)[_-]?key"
)
# Because cameras also take the password in the path: /user=admin_password=x_channel=1.
_VALUE: Final = r"(\s?(?:=|%3D)\s?)[^\s&\"]+"
_KEYED: Final = re.compile(
    rf"(?<![A-Za-z])((?:[A-Za-z]+[_-])*(?:user|login|admin|access|auth)?(?:{_STRONG})){_VALUE}", re.IGNORECASE
)
_IN_URL: Final = re.compile(
    rf"(?<![A-Za-z])((?:{_STRONG})[=/:]|(?:key|auth|sid|sig|signature|session|sessionid)=)[^\s&\"]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """Hide users, passwords and tokens in `text`, both in URLs and as `name=value`.

    Greedy up to the last @, because passwords are often pasted with unescaped / and @; queries are hidden whole.
    """
    text = _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))
    text = _URL.sub(lambda url: _IN_URL.sub(r"\1***", url[0]), text)
    return _KEYED.sub(r"\1\2***", text)
