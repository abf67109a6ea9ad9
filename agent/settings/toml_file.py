"""Reads TOML files; reports each syntax error with line, column, its text and the likely correction."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.messages.errors import WHO_MAY
from agent.settings.mistakes import Mistake, SettingsError, shown_line
from agent.settings.toml_cures import Cure, cure_of, parses

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_FAULTS: Final = 50
_LONGEST: Final = 1000
"""Longest line, in characters, for which a correction is searched, because that runs regular expressions."""
_ROWS: Final = {"stream", "binding", "schedule", "bandwidth", "model"}
_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?")
_OPENS: Final = re.compile(r"""\s*[^=#]+=\s*(\[|\{|\"{3}|'{3})""")
_CLOSING: Final = {"[": "]", "{": "}", '"""': '"""', "'''": "'''"}
_FOREIGN: Final = (("{", "JSON"), ("---", "YAML"), ("- ", "YAML"), ("<", "XML"))
_NO_QUOTE: Final = 'expected "\'"'
_MOST_DIGITS: Final = 4300
_DIGITS: Final = re.compile(rf"[\d_]{{{_MOST_DIGITS}}}")
_CONFLICT: Final = re.compile(r"(<{7}|={7}|>{7}|\|{7})( .*)?")
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TomlFile:
    """A TOML file as read: its tables, and the errors in its text."""

    tables: dict[str, Any] | None
    """The tables after every error was corrected; None where an error has no correction that parses."""
    mistakes: tuple[Mistake, ...] = ()


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises SettingsError with every error found, or where it cannot be read."""
    read = parse_toml(file)
    if read.tables is None or read.mistakes:
        raise SettingsError(read.mistakes)
    return read.tables


def parse_toml(file: Path) -> TomlFile:
    """Parse a TOML file, correcting errors where possible. Raises SettingsError where it cannot be read as UTF-8."""
    text = _text_of(file)
    lines = text.split("\n")
    mistakes: list[Mistake] = []
    while len(mistakes) < _MOST_FAULTS:
        try:
            return TomlFile(tomllib.loads("\n".join(lines)), tuple(mistakes))
        except tomllib.TOMLDecodeError as error:
            row, column, words = _place(error, lines)
        except RecursionError:
            mistakes.append(Mistake(str(file), "", "tables or lists nested too deep", "TOML of some levels"))
            break
        except ValueError:
            mistakes.append(_too_long(file, lines))
            break
        at, found, cure = _judged(lines, row, words)
        mistakes.append(_mistake(file, (at, column if at == row else len(lines[at].rstrip()) - 1), found, cure))
        if cure is None or cure.line is None:
            break
        lines[at] = cure.line
    return TomlFile(None, tuple(mistakes))


def _too_long(file: Path, lines: list[str]) -> Mistake:
    """Judge the number that Python refuses to read, because that takes time by the square of its length."""
    row = next((at for at, line in enumerate(lines) if _DIGITS.search(line)), 0)
    return Mistake(f"{file}:{row + 1}", "", "a number that is too long", f"a number of at most {_MOST_DIGITS} digits")


def _mistake(file: Path, place: tuple[int, int], found: str, cure: Cure | None) -> Mistake:
    row, column = place
    expected = "TOML" if cure is None else cure.words
    if cure is not None and cure.line is not None:
        expected += ": " + shown_line(cure.line.replace("\n", " \\n "))
    return Mistake(f"{file}:{row + 1}:{column + 1}", "", found, expected)


def _judged(lines: list[str], row: int, words: str) -> tuple[int, str, Cure | None]:
    """Return the faulty row, counted from 0, what was found there, and its correction or None."""
    line = lines[row]
    for judge in (_conflict, _foreign, _repeated, _unclosed):
        judged = judge(lines, row, words)
        if judged is not None:
            return judged
    cure = cure_of(line) if len(line) <= _LONGEST and not parses(line) else None
    found = f"`{shown_line(line)}`"
    return row, found if cure else f"{found} ({words})", cure


def _conflict(lines: list[str], row: int, _words: str) -> tuple[int, str, Cure | None] | None:
    if not _CONFLICT.fullmatch(lines[row].rstrip()):
        return None
    found = f"`{shown_line(lines[row])}`, which a merge left"
    return row, found, Cure("one of both sides alone, without the lines of <, = and >", None)


def _foreign(lines: list[str], _row: int, _words: str) -> tuple[int, str, Cure | None] | None:
    first = next(((at, one.strip()) for at, one in enumerate(lines) if one.strip()), (0, ""))
    kind = next((kind for start, kind in _FOREIGN if first[1].startswith(start)), None)
    if kind is None:
        return None
    cure = Cure("TOML: `key = value` lines below [table] lines", None)
    return first[0], f"`{shown_line(first[1])}`, which is {kind}", cure


def _repeated(lines: list[str], row: int, words: str) -> tuple[int, str, Cure | None] | None:
    """Return row, finding and correction of a table or key that is defined a second time; None for other errors."""
    if not words.startswith(("cannot overwrite", "cannot declare", "cannot mutate", "duplicate")):
        return None
    line = lines[row]
    header = _HEADER.fullmatch(line)
    found = f"`{shown_line(line)}`"
    if header is None:
        key = line.partition("=")[0].strip()
        first = _row_of_key(lines, row, key)
        again = f"{found}, where line {first + 1} sets {key} already" if first is not None else f"{found} ({words})"
        return row, again, Cure(f"{key or 'each key'} once: remove one of the two", None)
    name = _plain(header[2])
    others = [(at, one) for at, one in _headers(lines[:row]) if _plain(one[2]) == name]
    if name in _ROWS:
        cure = Cure(f"[[{name}]] with two brackets, for each of them", None)
    elif others:
        cure = Cure(f"one [{name}]: put the keys of both below line {others[0][0] + 1}", None)
    else:
        cure = Cure(f"one {name}: as a table or as a key", None)
    return row, f"{found}, where line {others[0][0] + 1} begins it already" if others else f"{found} ({words})", cure


def _unclosed(lines: list[str], row: int, words: str) -> tuple[int, str, Cure | None] | None:
    """Return row, finding and correction of a list, table or text that is not closed; None for other errors."""
    if not words.startswith(("unclosed", "unterminated", "invalid value", "invalid initial", "expected")):
        return None
    opened = _opening(lines, row) or _open_text(lines, words)
    if opened is None:
        return _last_open_quote(lines, row) if words.startswith(_NO_QUOTE) else None
    at, sign = opened
    after = next((line for line in lines[at + 1 :] if line.strip()), "")
    is_bare = lines[at].rstrip().endswith("{")  # a table over lines, as JSON has it
    ends = _HEADER.fullmatch(after) or "=" in after or not after
    own = cure_of(lines[at]) if sign in "[{" and not is_bare and ends else None
    if own is not None and own.line is not None and not (sign == "{" and "}" in after):
        return at, f"`{shown_line(lines[at])}`", own
    closing = _CLOSING[sign]
    if sign == "{":
        return at, f"`{shown_line(lines[at])}`", Cure("a table in { } on one line, or a [table] of its own", None)
    between = ", and a comma between its values" if sign == "[" else ""
    found = f"`{shown_line(lines[at])}`, which nothing closes"
    return at, found, Cure(f"{closing} behind its last value{between}", None)


def _last_open_quote(lines: list[str], row: int) -> tuple[int, str, Cure | None] | None:
    """Return row, finding and correction of the last quote up to `row` that is not closed; None without one."""
    for at in range(row, -1, -1):
        cure = None if parses(lines[at]) else cure_of(lines[at])
        if cure is not None and "'" in lines[at]:
            return at, f"`{shown_line(lines[at])}`", cure
    return None


def _open_text(lines: list[str], words: str) -> tuple[int, str] | None:
    """Return row and sign of the text of several lines that is open at the end of the file."""
    if not words.startswith("unterminated string"):
        return None
    openings = ((at, opens[1]) for at, line in enumerate(lines) if (opens := _OPENS.match(line)) is not None)
    whole_before = [(at, sign) for at, sign in openings if len(sign) > 1 and parses("\n".join(lines[:at]))]
    return whole_before[-1] if whole_before else None


def _opening(lines: list[str], row: int) -> tuple[int, str] | None:
    """Return row and opening sign of a value, begun at or before `row`, that its first line leaves open; else None."""
    for at in range(row, -1, -1):
        if _HEADER.fullmatch(lines[at]) and at < row:
            return None
        opens = _OPENS.match(lines[at])
        if opens:
            rest = lines[at][opens.end() :]
            is_open = _CLOSING[opens[1]] not in rest.partition("#")[0]
            return (at, opens[1]) if is_open and not parses(lines[at]) else None
        if at < row and "=" in lines[at]:
            return None
    return None


def _headers(lines: list[str]) -> Iterator[tuple[int, "re.Match[str]"]]:
    for at, line in enumerate(lines):
        header = _HEADER.fullmatch(line)
        if header:
            yield at, header


def _row_of_key(lines: list[str], row: int, key: str) -> int | None:
    for at in range(row - 1, -1, -1):
        if _HEADER.fullmatch(lines[at]):
            return None
        if _plain(lines[at].partition("=")[0]) == _plain(key):
            return at
    return None


def _plain(name: str) -> str:
    return re.sub(r"""[\s"']""", "", name)


def _place(error: tomllib.TOMLDecodeError, lines: list[str]) -> tuple[int, int, str]:
    """Return an error's row and column, both counted from 0, and the parser's message."""
    # Parsed, because only Python 3.14 has them as attributes: "... (at line 3, column 5)".
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
    words = found[1] if found else str(error)
    words = words[:1].lower() + words[1:]
    if found and found[2]:
        row = _element(lines, int(found[2]))
        return row, int(found[3]) - 1, words
    row = max((at for at, line in enumerate(lines) if line.strip()), default=0)
    return row, len(lines[row]), words


def _element(lines: list[str], row: int) -> int:
    """Return the index of the element that has row `row`, from 1: a mended one may hold two rows."""
    rows = 0
    for at, line in enumerate(lines):
        rows += 1 + line.count("\n")
        if rows >= row:
            return at
    return len(lines) - 1


def _text_of(file: Path) -> str:
    try:
        content = file.read_bytes()
    except PermissionError:
        raise SettingsError([Mistake(str(file), "", "no permission", WHO_MAY)]) from None
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise SettingsError([Mistake(str(file), "", found, "a file that can be read")]) from None
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        row, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        kind = "UTF-16" if content.startswith(_UTF_16) else f"a byte 0x{content[error.start]:02x} of another encoding"
        wanted = "UTF-8: save the file with that encoding"
        raise SettingsError([Mistake(f"{file}:{row}:{column}", "", f"{kind}, no UTF-8", wanted)]) from None
    if "\r" in text:
        row = text[: text.index("\r")].count("\n") + 1
        wanted = "line ends as Unix or Windows write them"
        raise SettingsError([Mistake(f"{file}:{row}", "", "a carriage return without a line feed", wanted)])
    return text
