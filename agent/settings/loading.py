"""Loading of settings from file and environment, with every mistake reported."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent import __version__
from agent.settings import environment
from agent.settings.crosschecks import crosschecks
from agent.settings.findings import Finding, findings
from agent.settings.mistakes import Mistake, SettingsError, dotted
from agent.settings.model import Settings
from agent.settings.renames import OF_CONFIGURATION, Rename, Renamed, understood
from agent.settings.toml_file import parse_toml

PLACES: Final = ("/etc/changeover/changeover.toml", "config/changeover.toml")
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""Environment variable that systemd sets to the folder of the unit's LoadCredential= files."""
_GROUPS: Final = ("device", "mqtt", "outbox", "catalog", "supply", "http")
VERSION: Final = 1
"""Newest version of the configuration file's format that this release reads."""
_LOG: Final = logging.getLogger(__name__)


def find_file(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration file: `path`, else $CHANGEOVER_CONFIG, else the first existing one of PLACES.

    Raises SettingsError where all three are missing.
    """
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


@dataclass(frozen=True)
class Draft:
    """A configuration as read: its unvalidated tables, its mistakes, and `settings` where validation succeeded."""

    file: Path
    raw: dict[str, Any]
    overrides: dict[str, Any]
    settings: Settings | None
    mistakes: tuple[Mistake, ...]
    renamed: tuple[Renamed, ...] = ()
    """Keys that stand in the file under a name that has since been changed."""

    def placed(self, finding: Finding) -> Mistake:
        """Convert a finding into a mistake located in the file or in an environment variable."""
        return _placed(finding, self.file, self.overrides)


def draft(path: Path | None, environ: Mapping[str, str], renames: Sequence[Rename] = OF_CONFIGURATION) -> Draft:
    """Read and validate the configuration. Raises SettingsError for an unreadable file or one of a newer format."""
    file = find_file(path, environ)
    values, mistakes = environment.overrides(environ)
    try:
        read = parse_toml(file)
    except SettingsError as error:
        raise SettingsError([*error.mistakes, *mistakes]) from None
    if read.tables is None:
        raise SettingsError([*read.mistakes, *mistakes])
    newer = _newer(read.tables, file)
    if newer is not None:
        raise SettingsError([newer])  # alone, because what else differs is no mistake of the user's
    tables, renamed, doubled = understood(read.tables, renames)
    values, renamed_there, _ = understood(values, renames)
    raw = environment.merged(tables, values)
    for group in _GROUPS:
        raw.setdefault(group, {})  # because relative default paths need the file's folder, too
    settings, found = _validated(raw, file, environ.get(_CREDENTIALS))
    crossed = list(crosschecks(raw))
    told = {finding.path for finding in crossed}
    found = [finding for finding in found if finding.path not in told]
    placed = [_placed(finding, file, values) for finding in (*doubled, *found, *crossed)]
    for one in renamed_there:
        _LOG.warning(
            "event=key_renamed file=%s key=%s now=%s", environment.WHERE, *map(environment.variable, (one.old, one.new))
        )
    return Draft(file, raw, values, settings, (*read.mistakes, *placed, *mistakes), tuple(renamed))


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Load the settings. Raises SettingsError with every mistake in the file and in `environ`."""
    read = draft(path, environ)
    if read.settings is None or read.mistakes:
        raise SettingsError(read.mistakes)
    tell_renamed(read.file, read.renamed)
    return read.settings


def tell_renamed(file: Path, renamed: Sequence[Renamed]) -> None:
    """Log a warning for each key that stands in the file under its former name."""
    for one in renamed:
        cure = "`changeover check --fix` mends it"
        _LOG.warning("event=key_renamed file=%s key=%s now=%s %s", file, dotted(one.old), dotted(one.new), cure)


def _newer(tables: dict[str, Any], file: Path) -> Mistake | None:
    version = tables.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version <= VERSION:
        return None
    wanted = f"{VERSION}: the file is of a newer Changeover than this one ({__version__}); install that one"
    return Mistake(str(file), "version", str(version), wanted)


def _validated(raw: dict[str, Any], file: Path, credentials: str | None) -> tuple[Settings | None, list[Finding]]:
    try:
        return Settings.model_validate(raw, context={"base": file.absolute().parent, "credentials": credentials}), []
    except ValidationError as error:
        return None, findings(error, Settings)


def _placed(finding: Finding, file: Path, values: dict[str, Any]) -> Mistake:
    if environment.comes_from(values, finding.path):
        return Mistake(environment.WHERE, environment.variable(finding.path), finding.found, finding.expected)
    return Mistake(str(file), dotted(finding.path), finding.found, finding.expected)
