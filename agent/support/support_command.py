"""Entry of `changeover support`."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.app.configuration.check import check
from agent.doctor.service import running_service
from agent.messages.errors import EXIT_OK, MistakeError
from agent.settings import Settings, SettingsError, host_id, load, read_toml
from agent.settings.loading import find_file
from agent.support import device_parts, documents, known_secrets, parts
from agent.support.archive import Archive, written
from agent.support.scrubber import Scrubber

_ABOUT: Final = """Made by `changeover support`.

Secrets are hidden as ***: users and passwords, whole paths and queries of URLs, comments, values of unknown keys, and
every value that a file of secrets holds, wherever it stands. Look it through before you give it away all the same:
product codes, ids, addresses and file names are in it.

Not in it, and why:
"""


def run(config: Path | None, out: Path | None, environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Write the archive; say where it is and what it lacks; return the exit code.

    Raises MistakeError where the archive exists or cannot be written.
    """
    file = _configuration(config, environ)
    read = check(config, environ) if file is not None else None
    settings = _settings(config, environ)
    device = settings.device.id if settings is not None else host_id()
    target = _target(out, f"changeover-support-{device}-{time.strftime('%Y%m%dT%H%M%S')}.tar.gz")
    with written(target, Scrubber(_secrets(file, settings, environ))) as archive:
        for name, add in _parts(archive, file, settings, environ).items():
            say(f"{name} ...")
            try:
                add()
            except (OSError, MistakeError) as error:
                archive.lacks(name, error)
        if read is not None:
            archive.text("check.txt", "\n".join([*map(str, read.mistakes), read.summary]).strip() + "\n")
        archive.text("ABOUT.txt", _ABOUT + "\n".join(f"- {one}" for one in archive.missing or ["nothing"]) + "\n")
        missing, names = list(archive.missing), list(archive.names)
    for one in missing:
        say(f"missing: {one}")
    say(f"written: {target} ({target.stat().st_size / 1e3:.0f} kB: {', '.join(names)})")
    return EXIT_OK


def _parts(
    archive: Archive, file: Path | None, settings: Settings | None, environ: Mapping[str, str]
) -> dict[str, Callable[[], None]]:
    found: dict[str, Callable[[], None]] = {
        "versions": lambda: parts.versions(archive),
        "configuration": lambda: _add_configuration(archive, file, settings, environ),
        "service": lambda: parts.service(archive),
        "journal": lambda: parts.journal(archive),
        "recording": lambda: parts.recording(archive),
    }
    if settings is None:
        archive.lacks("doctor, health, topics, files", "the configuration has mistakes, or is not there")
        return found
    return found | {
        "health": lambda: device_parts.health(archive, settings),
        "topics": lambda: device_parts.topics(archive, settings),
        "files": lambda: device_parts.files(archive, settings),
        "doctor": lambda: device_parts.doctor(archive, settings),
    }


def _add_configuration(
    archive: Archive, file: Path | None, settings: Settings | None, environ: Mapping[str, str]
) -> None:
    if file is None:
        archive.lacks("configuration.json", "no configuration was found: give --config")
        return
    found = {"file": str(file), "content": documents.shown_file(file, archive.scrubber)}
    archive.document("configuration.json", found | {"overridden": sorted(_overrides(environ))})
    catalog = settings.catalog.file if settings is not None else file.parent / "models.toml"
    if catalog.exists():
        content = documents.shown_file(catalog, archive.scrubber)
        archive.document("models.json", {"file": str(catalog), "content": content})
    else:
        archive.lacks("models.json", f"there is no {catalog}")


def _overrides(environ: Mapping[str, str]) -> Iterator[str]:
    return (name for name in environ if name.startswith("CHANGEOVER_"))


def _configuration(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    try:
        return find_file(config, environ)
    except SettingsError:
        return None


def _settings(config: Path | None, environ: Mapping[str, str]) -> Settings | None:
    """Return the settings even if files that they name are missing or invalid; None for an invalid configuration."""
    try:
        return load(config, environ)
    except SettingsError:
        return None


def _target(out: Path | None, name: str) -> Path:
    if out is None:
        return Path(name).absolute()
    return out / name if out.is_dir() else out.absolute()


def _secrets(file: Path | None, settings: Settings | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield every form of every secret that this user can read."""
    running = running_service()
    held = running.environment if running is not None else {}
    folders = [*map(Path, known_secrets.CREDENTIALS)]
    folders += [running.credentials] if running is not None and running.credentials is not None else []
    catalog = settings.catalog.file if settings is not None else None
    documents_ = {one: _document(one) for one in (file, catalog) if one is not None}
    names = [_username(document) for document in documents_.values()]
    found = [
        secret
        for one, document in documents_.items()
        for secret in known_secrets.of_document(document, one.absolute().parent)
    ]
    found += [secret for folder in folders for secret in known_secrets.of_folder(folder)]
    found += [*known_secrets.of_environment(environ), *known_secrets.of_environment(held)]
    if settings is not None:
        # the files as they were resolved: credential:NAME, and overrides of the environment
        for path in (settings.mqtt.password_file, settings.mqtt.key_file):
            found += known_secrets.of_file(path) if path is not None else ()
    own = {device for device in (settings.device.id if settings is not None else "",) if device}
    return known_secrets.forms((one for one in found if one not in own), tuple(name for name in names if name))


def _document(file: Path) -> Any:  # noqa: ANN401 - what TOML can hold
    """Return a TOML file's content; for an invalid file its values by key, and empty for an unreadable one."""
    try:
        return read_toml(file)
    except SettingsError:
        try:
            return known_secrets.of_lines(file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return {}


def _username(document: Any) -> str:  # noqa: ANN401 - what TOML can hold
    mqtt = document.get("mqtt") if isinstance(document, dict) else None
    return str(mqtt.get("username", "")) if isinstance(mqtt, dict) else ""
