"""From a path and an environment to settings, or to every mistake in them."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agent.settings import environment
from agent.settings.crosschecks import Finding, crosschecks
from agent.settings.fields import ID, REFERENCE, SOURCE
from agent.settings.mistakes import Mistake, SettingsError, dotted, shown
from agent.settings.model import Settings
from agent.settings.units import CLOCK

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLACES: Final = ("/etc/changeover/changeover.toml", "config/changeover.toml")
_GROUPS: Final = ("device", "mqtt", "outbox", "catalog", "http")
_WORTH_HIDING: Final = {"username", "password_file", "key_file", "source", "trusted_keys"}
_REQUIRED: Final = {
    "id": ID,
    "line": "the line that it belongs to",
    "source": SOURCE,
    "default": REFERENCE,
    "topic": "the topic to listen to",
    "from": CLOCK,
    "to": CLOCK,
    "below_kbps": "a number of kbit/s",
}


def find_file(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration file: `path`, else $CHANGEOVER_CONFIG, else the first of PLACES that is there."""
    if path is not None:
        return path
    if named := environ.get(environment.CONFIG):
        return Path(named)
    for place in PLACES:
        if Path(place).exists():
            return Path(place)
    wanted = f"--config FILE, ${environment.CONFIG}, or one of {', '.join(PLACES)}"
    raise SettingsError([Mistake("configuration", "", "no file", wanted)])


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file. Raises SettingsError, with the line where TOML's own rules are broken."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        line = _line_of(error)
        where = f"{file}:{line}" if line else str(file)
        raise SettingsError([Mistake(where, "", _words_of(error), "TOML")]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([Mistake(str(file), "", f"a byte that is no UTF-8 at {error.start}", "UTF-8")]) from None
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise SettingsError([Mistake(str(file), "", found, "a file that can be read")]) from None


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the configuration. Raises SettingsError with every mistake in the file and in `environ`."""
    file = find_file(path, environ)
    values, mistakes = environment.overrides(environ)
    try:
        raw = environment.merged(read_toml(file), values)
    except SettingsError as error:
        raise SettingsError([*error.mistakes, *mistakes]) from None
    for group in _GROUPS:
        raw.setdefault(group, {})  # so that the defaults of relative paths know the file's folder too
    settings, findings = _validated(raw, file)
    mistakes = [_placed(finding, file, values) for finding in (*findings, *crosschecks(raw))] + mistakes
    if settings is None or mistakes:
        raise SettingsError(mistakes)
    return settings


def _validated(raw: dict[str, Any], file: Path) -> tuple[Settings | None, list[Finding]]:
    try:
        return Settings.model_validate(raw, context={"base": file.absolute().parent}), []
    except ValidationError as error:
        return None, [_finding(details) for details in error.errors(include_url=False)]


def _placed(finding: Finding, file: Path, values: dict[str, Any]) -> Mistake:
    if environment.comes_from(values, finding.path):
        return Mistake(environment.WHERE, environment.variable(finding.path), finding.found, finding.expected)
    return Mistake(str(file), dotted(finding.path), finding.found, finding.expected)


def _finding(details: ErrorDetails) -> Finding:
    path = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] == "missing":
        return Finding(path, "nothing", _REQUIRED.get(str(path[-1]), "a value"))
    if details["type"] == "extra_forbidden":
        return Finding(path, "an unknown key", f"one of {', '.join(_keys_beside(path))}")
    found = shown(details["input"])
    if _WORTH_HIDING.intersection(path) and isinstance(details["input"], str):
        found = "a value that does not fit" if details["input"] else '""'
    return Finding(path, found, _expected(details))


def _expected(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        return str(context["error"])
    if details["type"] == "model_type":
        return "a table"
    if details["type"] in {"tuple_type", "list_type"}:
        return "a list (a table in it begins with [[...]])"
    text = details["msg"].removeprefix("Input should be ").partition(", unable")[0]
    text = f"a number {text}" if text.startswith(("greater", "less")) else text
    return text.replace("a valid dictionary", "a table")


def _keys_beside(path: tuple[str | int, ...]) -> Iterator[str]:
    group: Any = Settings
    for part in path[:-1]:
        fields = getattr(group, "model_fields", {})
        group = _group_of(fields[part].annotation) if part in fields else group
    for name, field in group.model_fields.items():
        yield field.alias or name


def _group_of(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no common type
    arguments = [part for part in getattr(annotation, "__args__", ()) if hasattr(part, "model_fields")]
    return arguments[0] if arguments else annotation


def _line_of(error: tomllib.TOMLDecodeError) -> int | None:
    # Only Python 3.14 gives the line as an attribute; before, it stands in the message: "... (at line 3, column 5)".
    text = str(error).rpartition("(at line ")[2].partition(",")[0]
    return int(text) if text.isdigit() else None


def _words_of(error: tomllib.TOMLDecodeError) -> str:
    words = str(error).partition(" (at ")[0]
    return words[:1].lower() + words[1:]
