"""`changeover check --fix`: gives renamed keys their new names, in place; comments stay."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

from agent.files import expanded, locked, sync_path
from agent.messages.errors import MistakeError
from agent.settings import SettingsError, dotted
from agent.settings.loading import VERSION, find_file
from agent.settings.mistakes import shown_line
from agent.settings.renames import OF_CATALOG, OF_CONFIGURATION, Rename, Renamed, moved, understood
from agent.settings.toml_file import read_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PATIENCE_S: Final = 30.0
_VERSION_LINE: Final = f"version = {VERSION}                        # of this file's keys\n"


def mend(config: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Replace former key names in the configuration and its catalog; yield a line of text for each change.

    Files that are not valid TOML stay as they are. Raises MistakeError where a name cannot be replaced.
    """
    file = find_file(config, environ)
    with suppress(SettingsError):
        catalog = read_toml(file).get("catalog", {})
        yield from mend_file(file, OF_CONFIGURATION, with_version=True)
        name = catalog.get("file", "models.toml") if isinstance(catalog, dict) else ""
        models = _catalog(file, str(name))
        if models is not None and models.is_file():
            with locked(models.with_name(f"{models.name}.lock"), _PATIENCE_S):
                yield from mend_file(models, OF_CATALOG, with_version=False)


def _catalog(file: Path, name: str) -> Path | None:
    try:
        return Path(file.absolute().parent, expanded(Path(name)))
    except ValueError:
        return None  # the check that follows tells why


def mend_file(file: Path, renames: Sequence[Rename], *, with_version: bool) -> Iterator[str]:
    """Replace former key names in one file, after a backup beside it; yield a line of text for each change.

    A name is replaced only where the new text parses to the expected tables, so that no value of that text is changed.
    Raises MistakeError, with nothing changed, where a name cannot be replaced or the file cannot be written.
    """
    before = read_toml(file)
    _, renamed, _ = understood(before, renames)
    text = file.read_bytes().decode("utf-8")
    try:
        mended = _renamed_text(text, before, renamed)
    except MistakeError as error:
        raise MistakeError(f"{file}: {error}; nothing was changed") from None
    needs_version = with_version and "version" not in before
    mended = _with_version(mended) if needs_version else mended
    if mended == text:
        return
    kept = _replace(Path(os.path.realpath(file)), mended)
    yield from (f"mended {file}: {one}" for one in renamed)
    if needs_version:
        yield f"mended {file}: version = {VERSION} stands in it"
    yield from _difference(text, mended)
    yield f"what it was is kept as {kept}"


def _with_version(text: str) -> str:
    """Insert the line with the file format's version before the first line that is neither empty nor a comment."""
    lines = text.splitlines(keepends=True)
    at = next(
        (
            at
            for at, line in enumerate(lines)
            if line.strip("\ufeff \t\r\n") and not line.lstrip("\ufeff \t").startswith("#")
        ),
        len(lines),
    )
    end = "\r\n" if "\r\n" in text else "\n"
    mark = "\ufeff" if at == 0 and text.startswith("\ufeff") else ""
    lines[at:] = [mark + _VERSION_LINE.rstrip("\n") + end, end, "".join(lines[at:]).removeprefix(mark)]
    return "".join(lines)


def _renamed_text(text: str, before: dict[str, Any], renamed: Sequence[Renamed]) -> str:
    """Return the text with each former key name replaced. Raises MistakeError for one that cannot be."""
    for one in renamed:
        before = moved(before, one)
        name = str(one.old[-1])
        token = re.compile(rf"(?<![\w-])(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')(?![\w-])")
        new = dotted(one.new[len(one.old) - 1 :])
        tries = (text[: found.start()] + new + text[found.end() :] for found in token.finditer(text))
        mended = next((mended for mended in tries if _tables(mended) == before), None)
        if mended is None:
            raise MistakeError(
                f"rename {dotted(one.old)} to {dotted(one.new)} by hand: its line cannot be mended alone"
            )
        text = mended
    return text


def _tables(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError:
        return None


def _difference(before: str, after: str) -> Iterator[str]:
    for line in unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""):
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---")):
            yield f"  {line[0]} {shown_line(line[1:])}"


def _replace(file: Path, text: str) -> Path:
    """Replace a file atomically, keeping owner and mode; return the backup's path. Raises MistakeError if it fails."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        kept = _keep(file)
        try:
            _write_new(draft, text.encode("utf-8"), file.stat())
            draft.replace(file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        sync_path(file.parent)
    except OSError as error:
        raise MistakeError(f"{error.filename or file}: {error.strerror}; may this user write there?") from None
    return kept


def _keep(file: Path) -> Path:
    """Copy a file to an unused name beside it (`.bak`, `.bak-2`, ...), and return that path."""
    number = 1
    while True:
        kept = file.with_name(f"{file.name}.bak" + (f"-{number}" if number > 1 else ""))
        with suppress(FileExistsError):
            _write_new(kept, file.read_bytes(), file.stat())
            return kept
        number += 1


def _write_new(path: Path, content: bytes, like: os.stat_result) -> None:
    """Create a file with owner and mode as in `like`. Raises OSError, also where it exists already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        own = os.fstat(descriptor)
        if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, like.st_mode & 0o7777)
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
