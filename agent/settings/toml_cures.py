"""Likely corrections of a line that is not valid TOML; a corrected line is proposed only where it parses."""

import re
import sys
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Cure(NamedTuple):
    """A proposed correction of a line."""

    words: str
    """Instruction for the user."""
    line: str | None
    """The corrected line; None where only the user can know it."""


class _Statement(NamedTuple):
    key: str
    value: str
    comment: str
    """The trailing comment with the blanks before it; empty without one."""


_ODD: Final = {
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02", '"'),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`\uff07", "'"),
}
_BLANKS: Final = {
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u202f\u3000\x0b\x0c", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys(map(chr, (*range(9), *range(14, 32), 127)), ""),
}
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED: Final = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*')(\s*#.*)?""")
_TRUE, _FALSE = {"yes", "on", "true", "y", "enabled"}, {"no", "off", "false", "n", "disabled"}
_IN_QUOTES: Final = "a name with blanks or other signs in quotes"
_NOTHING: Final = {"none", "null", "nil", "~", "undefined", "n/a", "-"}
_COMMENT: Final = re.compile(r"(?<=\s)(//|;|--|/\*|<!--)(?=\s).*$")
_TWO_KEYS: Final = re.compile(
    r"""([\w.-]+\s*=\s*(?:"[^"\\]*"|'[^']*'|[^\s"',;#=]+))(?:\s*[,;]\s*|\s+)([\w.-]+\s*=.*)"""
)
_BEHIND: Final = re.compile(r"(?:^|(?<=\s))#.*$")


def parses(text: str) -> bool:
    """Return True where `text` is TOML."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):  # the first also where Python takes no number of so many digits
        return False
    return True


def cure_of(line: str) -> Cure | None:
    """Return a correction, of one or two changes, for a line that is not valid TOML by itself; None without one."""
    firsts = list(_odd_characters(line)) or list(_changes(line))
    for first in firsts:
        if first.line is None or parses(first.line):
            return first
    for first in firsts:
        for second in _changes(first.line or ""):
            if second.line is not None and parses(second.line):
                words = first.words if second.words == first.words else f"{first.words}, and {second.words}"
                return Cure(words, second.line)
    return None


def _changes(line: str) -> Iterator[Cure]:
    for change in _ALL:
        yield from change(line)


def _odd_characters(line: str) -> Iterator[Cure]:
    for table, what in ((_ODD, "straight quotes, \" or ',"), (_BLANKS, "a plain blank or nothing")):
        found = [one for one in line if one in table]
        if found:
            there = f"U+{ord(found[0]):04X}" if found[0] in _BLANKS else found[0]
            yield Cure(f"{what} instead of {there}", "".join(table.get(one, one) for one in line))


def _comments(line: str) -> Iterator[Cure]:
    for mark in ("//", ";", "--", "/*", "<!--"):
        if line.lstrip().startswith(mark):
            yield Cure(f"# before a comment instead of {mark}", "# " + line.lstrip().removeprefix(mark).strip())
    behind = _COMMENT.search(line)
    if behind:
        mark = behind[1]
        mended = f"{line[: behind.start()].rstrip()}  # {behind[0].strip().removeprefix(mark).strip()}"
        yield Cure(f"# before a comment instead of {mark}", mended)
    stripped = line.rstrip()
    if stripped.endswith((",", ";")):
        yield Cure(f"nothing behind the value, no {stripped[-1]}", stripped[:-1])


def _two_keys(line: str) -> Iterator[Cure]:
    both = _TWO_KEYS.fullmatch(line.strip())
    if both and parses(both[1]) and parses(both[2]):
        yield Cure("one key a line", f"{both[1]}\n{both[2]}")


def _headers(line: str) -> Iterator[Cure]:
    text = line.strip()
    if not text.startswith("["):
        return
    head, _, behind = text.partition("#")
    inner = re.fullmatch(r"(\[\s*\[?)([^\[\]]*)(\]?\s*\]?)\s*", head)
    if inner:
        double = "[" in inner[1][1:] or inner[3].count("]") > 1
        opening, closing = ("[[", "]]") if double else ("[", "]")
        comment = f"  #{behind}" if behind else ""
        if (inner[1], inner[3]) != (opening, closing):
            words = f"a table's name between {opening} and {closing}"
            yield Cure(words, f"{opening}{inner[2].strip()}{closing}{comment}")
        parts = ["-".join(part.split()) for part in _dotted(inner[2])]  # because no id may hold a blank
        yield Cure("a name without blanks, which may hold -", f"{opening}{'.'.join(parts)}{closing}{comment}")
        name = ".".join(_key(part) for part in parts)
        yield Cure("a name with such signs in quotes", f"{opening}{name}{closing}{comment}")
    table = re.fullmatch(r"(\[\[?[^\[\]]+\]\]?)\s*(\S.*=.*)", text)
    if table:
        yield Cure("the key on a line of its own, below the table's name", f"{table[1]}\n{table[2]}")


def _separators(line: str) -> Iterator[Cure]:
    text = line.strip()
    statement = _split(line)
    if statement is None:
        other = re.fullmatch(r"""([\w"'][\w."'-]*?)\s*(:=|=>|:|\s)\s*(\S.*)""", text)
        if other:
            yield Cure("= between key and value", f"{other[1]} = {other[3]}")
        elif _BARE.fullmatch(text):
            yield Cure(f"a value: {text} = ...", None)
        return
    key, value, comment = statement
    second = re.match(r"[=>:]*\s*", value)
    behind = value[second.end() :] if second else value
    if behind != value or key.endswith(":"):
        yield Cure("one = between key and value", f"{key.rstrip(' :')} = {behind}{comment}")
    if not value:
        yield Cure(f"a value after {key} =, or # before the line to leave the key out", None)


def _keys(line: str) -> Iterator[Cure]:
    statement = _split(line)
    if statement is None or not statement.key:
        return
    for key in (".".join(_key(part) for part in _dotted(statement.key)), _key(statement.key)):
        if key != statement.key:
            words = "both quotes of a name, or none" if statement.key.count('"') % 2 else _IN_QUOTES
            yield Cure(words, f"{key} = {statement.value}{statement.comment}")


def _values(line: str) -> Iterator[Cure]:
    statement = _split(line)
    if statement is None or not statement.value:
        return
    key, value, comment = statement

    def with_value(words: str, mended: str) -> Cure:
        return Cure(words, f"{key} = {mended}{comment}")

    if re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+|[+-]?\d+,\d+", value):
        yield with_value("a point before the decimals", value.replace(".", "").replace(",", "."))
    if re.fullmatch(r"[+-]?(\.\d+|\d+\.)", value):
        mended = f"{value}0" if value.endswith(".") else value.replace(".", "0.")
        yield with_value("a digit on both sides of the point", mended)
    if value.lower() in _TRUE | _FALSE:
        yield with_value("true or false, in small letters", "true" if value.lower() in _TRUE else "false")
    if value.lower() in _NOTHING:
        yield Cure(f"a value, or # before the line to leave {key} out", None)
    if re.fullmatch(r"[+-]?0+\d+", value):
        yield with_value(f'a number without zeros in front, or "{value}" in quotes', str(int(value)))
    yield from (with_value(words, mended) for words, mended in _lists(value))
    yield from (with_value(words, mended) for words, mended in _strings(value))


def _lists(value: str) -> Iterator[tuple[str, str]]:
    if value.startswith("["):
        yield "a ] that closes the list", f"{value.rstrip(', ')}]"
        words = [word.strip() for word in value.strip("[]").split(",")]
        yield "each text of the list in quotes", f"[{', '.join(_text(word) for word in words)}]"
    if value.startswith("{"):
        yield "no comma before the }", re.sub(r",\s*}", " }", value)
        yield "a } that closes the table, on the same line", f"{value.rstrip(', ')} }}"


def _strings(value: str) -> Iterator[tuple[str, str]]:
    quote = value[0]
    if "\\" in value and quote == '"':
        inner = value.strip('"')
        yield "/ instead of \\, or single quotes", f'"{inner}"'.replace("\\\\", "/").replace("\\", "/")
    if quote in "\"'":
        yield "a closing quote", value + quote
    if quote == '"' and value.endswith('"') and "'" not in value:
        yield "single quotes around a text with double ones", f"'{value[1:-1]}'"
    if value.endswith(("'", '"')):
        yield "an opening quote", value[-1] + value
    if quote not in "\"'[{":
        yield "a text in quotes", _text(value)


_ALL: Final[tuple[Callable[[str], Iterator[Cure]], ...]] = (
    _odd_characters,
    _two_keys,
    _comments,
    _headers,
    _separators,
    _values,
    _keys,
)


def _split(line: str) -> _Statement | None:
    """Split a line at its first `=`; return None where it has none before a comment."""
    key, separator, rest = line.partition("=")
    if not separator or "#" in key:
        return None
    value = rest.strip()
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        return _Statement(key.strip(), quoted[1], quoted[2] or "")
    begins = _BEHIND.search(value)
    bare = value[: begins.start()].rstrip() if begins else value
    return _Statement(key.strip(), bare, value[len(bare) :])


def _dotted(name: str) -> list[str]:
    return [part.strip() for part in re.findall(r"""(?:"[^"]*"|'[^']*'|[^."'])+""", name)]


def _key(part: str) -> str:
    bare = " ".join(part.strip("\"' \t").split())
    return bare if _BARE.fullmatch(bare) else _text(bare)


def _text(value: str) -> str:
    if '"' in value or "\\" in value:
        return value if value.startswith(('"', "'")) else f"'{value}'"
    return f'"{value}"'
