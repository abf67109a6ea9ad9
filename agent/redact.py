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
    r"|kennwort|contrase(?:n|ñ|%C3%B1)a|clave|senha|palavra[_-]?passe|mot[_-]?de[_-]?passe|mdp|parola|parole"
    r"|has[lł]o|heslo|wachtwoord|l(?:o|ö)senord|adgangskode|salasana|jelsz(?:o|ó)|(?:s|ş)ifre"
    r"|пароль|密码|密碼|パスワード|pin(?:code)?|passkey|hash|hmac|digest|nonce|otp"
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
_IN_PATH: Final = re.compile(rf"(?<![A-Za-z])((?:{_STRONG})[/:])[^\s&\"]+", re.IGNORECASE)
# In a URL each value is hidden but those of names that hold none, because makers of cameras invent names.
_NAMED: Final = re.compile(r"(?<![^\W_])([^\W\d_][^\W_]*)(?:=|%3D)(?=([^\s&\"_/;,#.]*))([^\s&\"]*)", re.IGNORECASE)
_HARMLESS: Final = re.compile(
    r"users?|usr|u|username|login(?:user?)?|account|channels?|ch|chn|chan|chid|cam(?:era)?s?|streams?|streamtype"
    r"|subtype|sub|main|profile|video|audio|fps|(?:frame|bit)?rate|gop|res(?:olution)?|size|width|height|w|h|codec"
    r"|format|fmt|quality|compression|proto(?:col)?|transport|unicast|multicast|track(?:id)?|type|mode|id|no|index"
    r"|inst(?:ance)?|port|overlay|rotation",
    re.IGNORECASE,
)
_SWITCH: Final = re.compile(r"\d|on|off|true|false|yes|no|auto", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide users, passwords and tokens in `text`, both in URLs and as `name=value`.

    Hides all up to a URL's last @, because passwords are often pasted with unescaped / and @; and any whole query.
    """
    text = _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))
    text = _URL.sub(lambda url: _without_values(_IN_PATH.sub(r"\1***", url[0])), text)
    return _HEADER.sub(r"\1***", _KEYED.sub(r"\1\2***", text))


def _without_values(url: str) -> str:
    kept, at = "", 0
    while found := _NAMED.search(url, at):
        is_harmless = _HARMLESS.fullmatch(found[1]) or _SWITCH.fullmatch(found[2])
        end = found.start(3) if is_harmless else found.end()
        kept += url[at : found.start(3)] + ("" if is_harmless else "***")
        at = end
    return kept + url[at:]
