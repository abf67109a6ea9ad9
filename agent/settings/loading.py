"""Loading of settings from file and environment, with every mistake reported."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.messages.errors import WHO_MAY
from agent.settings import environment
from agent.settings.crosschecks import crosschecks
from agent.settings.findings import Finding, findings
from agent.settings.mistakes import Mistake, SettingsError, dotted
from agent.settings.model import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLACES: Final = ("/etc/changeover/changeover.toml", "config/changeover.toml")
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""Set by systemd to the folder of the unit's LoadCredential= files."""
_GROUPS: Final = ("device", "mqtt", "outbox", "catalog", "http")


def find_file(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration file: `path`, else $CHANGEOVER_CONFIG, else the first existing one of PLACES."""
    if path is not None:
        return path
    if named := environ.get(environment.CONFIG):
        return Path(named)
    for place in PLACES:
        if _is_there(place):
            return Path(place)
    wanted = f"--config FILE, ${environment.CONFIG}, or one of {', '.join(PLACES)}"
    raise SettingsError([Mistake("configuration", "", "no file", wanted)])


def _is_there(place: str) -> bool:
    """Return False for a missing file; True also for one that this user may not see, because reading it says so."""
    try:
        os.stat(place)  # noqa: PTH116 - pathlib's exists differs between versions of Python here
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises SettingsError with the line of a syntax error."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        line = _line_of(error)
        where = f"{file}:{line}" if line else str(file)
        raise SettingsError([Mistake(where, "", _words_of(error), "TOML")]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([Mistake(str(file), "", f"a byte that is no UTF-8 at {error.start}", "UTF-8")]) from None
    except PermissionError:
        raise SettingsError([Mistake(str(file), "", "no permission", WHO_MAY)]) from None
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise SettingsError([Mistake(str(file), "", found, "a file that can be read")]) from None


@dataclass(frozen=True)
class Draft:
    """A configuration with its mistakes, or with `settings` where there are none."""

    file: Path
    raw: dict[str, Any]
    overrides: dict[str, Any]
    settings: Settings | None
    mistakes: tuple[Mistake, ...]

    def placed(self, finding: Finding) -> Mistake:
        """Assign a finding to the file or to the environment."""
        return _placed(finding, self.file, self.overrides)


def draft(path: Path | None, environ: Mapping[str, str]) -> Draft:
    """Read and validate the configuration. Raises SettingsError without a readable TOML file."""
    file = find_file(path, environ)
    values, mistakes = environment.overrides(environ)
    try:
        raw = environment.merged(read_toml(file), values)
    except SettingsError as error:
        raise SettingsError([*error.mistakes, *mistakes]) from None
    for group in _GROUPS:
        raw.setdefault(group, {})  # because relative default paths need the file's folder, too
    settings, found = _validated(raw, file, environ.get(_CREDENTIALS))
    placed = [_placed(finding, file, values) for finding in (*found, *crosschecks(raw))]
    return Draft(file, raw, values, settings, (*placed, *mistakes))


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Load the settings. Raises SettingsError with every mistake in the file and in `environ`."""
    read = draft(path, environ)
    if read.settings is None or read.mistakes:
        raise SettingsError(read.mistakes)
    return read.settings


def _validated(raw: dict[str, Any], file: Path, credentials: str | None) -> tuple[Settings | None, list[Finding]]:
    try:
        return Settings.model_validate(raw, context={"base": file.absolute().parent, "credentials": credentials}), []
    except ValidationError as error:
        return None, findings(error, Settings)


def _placed(finding: Finding, file: Path, values: dict[str, Any]) -> Mistake:
    if environment.comes_from(values, finding.path):
        return Mistake(environment.WHERE, environment.variable(finding.path), finding.found, finding.expected)
    return Mistake(str(file), dotted(finding.path), finding.found, finding.expected)


def _line_of(error: tomllib.TOMLDecodeError) -> int | None:
    # Parsed, because only Python 3.14 has the line as an attribute: "... (at line 3, column 5)".
    text = str(error).rpartition("(at line ")[2].partition(",")[0]
    return int(text) if text.isdigit() else None


def _words_of(error: tomllib.TOMLDecodeError) -> str:
    words = str(error).partition(" (at ")[0]
    return words[:1].lower() + words[1:]
