"""`changeover check`: reports every mistake in configuration, catalog and named files at once."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.app.configuration.service_access import DATA, HOME, Fault, Service, service_of
from agent.app.configuration.source_files import missing_cameras, source_mistakes
from agent.messages.canary import COMPARISONS
from agent.messages.references import ModelVersion
from agent.messages.texts.camera_names import is_live
from agent.models.catalog import Catalog
from agent.models.checks import artifact_mistakes, is_for_requests_alone, missing_models, unknown_variants
from agent.mqtt.endpoint.link_settings import tls_of
from agent.mqtt.endpoint.tls import LockedKeyError
from agent.settings import CatalogSettings, Draft, Finding, Mistake, Settings, SettingsError, draft
from agent.settings.fields import CREDENTIALS
from agent.settings.mistakes import dotted
from agent.trust.words import untrusted
from agent.web.gateway.core.clients import holds_token

_READABLE: Final = ("password_file", "ca_file", "cert_file", "key_file")
_SECRETS: Final = ("access_key_file", "secret_key_file", "token_file")
_OF_WEB: Final = ("cert_file", "key_file", "client_ca_file")


@dataclass(frozen=True)
class Checked:
    """Result of a check: all mistakes, or a summary with the checked settings and catalog."""

    mistakes: tuple[Mistake, ...]
    summary: str = ""
    settings: Settings | None = None
    catalog: Catalog | None = None
    notes: tuple[str, ...] = ()
    """Remarks that are no mistakes: cameras that are missing now, and keys under their former names."""


def check(config: Path | None, environ: Mapping[str, str]) -> Checked:
    """Check the configuration in `config` (None: the usual places) with all named files, models included."""
    try:
        read = draft(config, environ)
    except SettingsError as error:
        return Checked(error.mistakes)
    mistakes = [*read.mistakes, *_unreadable(read), *_locked_key(read)]
    if read.settings is not None:
        mistakes += [read.placed(finding) for finding in source_mistakes(read.settings)]
    catalog = None
    try:
        catalog = _catalog(read)
    except SettingsError as error:
        mistakes += error.mistakes
    if catalog is not None:
        named = (*missing_models(read.raw, catalog), *unknown_variants(read.raw, catalog))
        mistakes += [read.placed(finding) for finding in named]
        is_tensors = partial(_may_be_tensors, read.settings)
        mistakes += artifact_mistakes(catalog, is_tensors)
        mistakes += _unreadable_outputs(catalog, is_tensors)
    service = service_of(read.file)
    if service is not None:
        mistakes += _closed_to(service, read, catalog)
    notes = _notes(read, catalog)
    if mistakes or read.settings is None or catalog is None:
        return Checked(tuple(mistakes), notes=notes)
    return Checked((), _summary(read.file, read.settings, catalog, service), read.settings, catalog, notes)


def _notes(read: Draft, catalog: Catalog | None) -> tuple[str, ...]:
    renamed = [(read.file, one) for one in read.renamed]
    renamed += [(catalog.file, one) for one in catalog.renamed] if catalog is not None else []
    notes = [f"{file}: {one}: `changeover check --fix` renames it" for file, one in renamed]
    if read.settings is not None:
        notes += [f"stream {id_}: there is no {camera} now" for id_, camera in missing_cameras(read.settings)]
        notes += _kept_pictures(read.settings)
        notes += _plain_tokens(read.settings)
        notes += untrusted(read.settings, catalog.versions) if catalog is not None else []
    return tuple(notes)


def _kept_pictures(settings: Settings) -> Iterator[str]:
    """Yield a note where frames of the cameras are kept on disk, because pictures are private."""
    if settings.canary.keep_bytes:
        folder = settings.device.state_dir / COMPARISONS
        yield f"canary.keep_bytes: comparisons keep pictures of the lines in {folder}"


def _plain_tokens(settings: Settings) -> Iterator[str]:
    """Yield a note for each client of requests whose token lies on the disk as it is."""
    for index, client in enumerate(settings.web.client if settings.web.is_on else ()):
        with suppress(OSError):  # which other checks tell of
            if client.token_file is not None and holds_token(client.token_file):
                key = dotted(("web", "client", index, "token_file"))
                cure = f"`changeover web token {client.name}` makes one of which only a hash is kept"
                yield f"{key}: {client.token_file} holds the token itself: {cure}"


def _closed_to(service: Service, read: Draft, catalog: Catalog | None) -> Iterator[Mistake]:
    """Yield a mistake for each file that the service's user cannot use, though root can."""
    fault = service.unreadable(read.file)
    if fault is not None:
        yield Mistake(str(read.file), "", *fault)
    if read.settings is None:
        return
    for key, fault in _closed_keys(service, read.settings):
        yield read.placed(Finding(key, *fault))
    if catalog is None:
        return
    for index, version in enumerate(catalog.versions):
        folder = Path(version.path).parent
        files = [(Path(version.path), "file"), *((folder / one.name, "files") for one in version.files)]
        files += [(Path(version.golden), "golden")] if version.golden is not None else []
        for path, name in files:
            fault = service.unreadable(path) if path.exists() else None
            if fault is not None:
                yield Mistake(str(catalog.file), dotted(("model", index, name)), *fault)
                break  # because the same command may mend the others


def _closed_keys(service: Service, settings: Settings) -> Iterator[tuple[tuple[str | int, ...], Fault]]:
    named: list[tuple[tuple[str | int, ...], Path | None, Path]] = [(("catalog", "file"), settings.catalog.file, HOME)]
    named += [(("mqtt", key), getattr(settings.mqtt, key), HOME) for key in _READABLE]
    named += [(key, path, HOME) for key, path in (*_of_supply(settings), *_of_web(settings))]
    for index, stream in enumerate(settings.stream):
        named.append((("stream", index, "ca_file"), stream.ca_file, HOME))
        if not is_live(stream.source):
            named.append((("stream", index, "source"), Path(stream.source), DATA))
    for key, path, home in named:
        if path is None or not path.exists():
            continue
        is_credential = path.parent == Path(CREDENTIALS)  # which only root reads, and systemd hands over
        fault = service.not_handed_over(path) if is_credential else service.unreadable(path, home)
        if fault is not None:
            yield key, fault
    fault = service.unwritable(settings.device.state_dir)
    if fault is not None:
        yield ("device", "state_dir"), fault


def _unreadable_outputs(catalog: Catalog, is_tensors: Callable[[ModelVersion], bool]) -> Iterator[Mistake]:
    """Yield a mistake for each model whose output layout a load would refuse, where its file alone shows that."""
    from agent.inference.yolo.declared import refusal_of_output  # noqa: PLC0415 - only a check needs it

    for index, version in enumerate(catalog.versions):
        if is_tensors(version):
            continue
        refusal = refusal_of_output(version)
        if refusal is not None:
            key = dotted(("model", index, "layout" if version.layout else "file"))
            yield Mistake(str(catalog.file), key, str(refusal), "a model whose output can be read")


def _may_be_tensors(settings: Settings | None, version: ModelVersion) -> bool:
    """Return True for an entry that may be no detector; one with a task or a layout is meant as a detector."""
    is_silent = not (version.task or version.layout)
    return settings is not None and is_silent and is_for_requests_alone(settings, version.name)


def _catalog(read: Draft) -> Catalog | None:
    """Load the catalog even if other tables are invalid; None where `[catalog]` is. Raises SettingsError."""
    try:
        where = CatalogSettings.model_validate(read.raw["catalog"], context={"base": read.file.absolute().parent})
    except ValidationError:
        return None
    if not where.file.exists():
        found = read.placed(
            Finding(("catalog", "file"), f"no file {where.file}", "the catalog: `changeover models add`")
        )
        raise SettingsError([found])
    return Catalog.read(where.file, where.store_dir)


def _unreadable(read: Draft) -> Iterator[Mistake]:
    if read.settings is None:
        return
    files: list[tuple[tuple[str | int, ...], Path | None]] = [
        (("mqtt", key), getattr(read.settings.mqtt, key)) for key in _READABLE
    ]
    files += [(("stream", index, "ca_file"), one.ca_file) for index, one in enumerate(read.settings.stream)]
    files += (*_of_supply(read.settings), *_of_web(read.settings))
    for key, path in files:
        fault = _fault_of(key, path, _is_plain(read, key)) if path is not None else None
        if fault is not None:
            yield read.placed(Finding(key, *fault))


def _of_supply(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], Path | None]]:
    yield ("catalog", "root"), settings.catalog.root
    for name, host in settings.supply.host.items():
        for key in (*_SECRETS, "ca_file"):
            yield ("supply", "host", name, key), getattr(host, key)


def _of_web(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], Path | None]]:
    yield from ((("web", key), getattr(settings.web, key)) for key in _OF_WEB)
    for index, client in enumerate(settings.web.client):
        yield ("web", "client", index, "token_file"), client.token_file


def _fault_of(key: tuple[str | int, ...], path: Path, is_plain: bool) -> tuple[str, str] | None:  # noqa: FBT001 - as named
    where = f" {path}" if is_plain else ""
    is_secret = key[-1] in {"password_file", *_SECRETS}
    held = "the password" if key[-1] == "password_file" else "the credential" if is_secret else ""
    how = f"a file{where} that holds {held}" if held else f"a file{where} in PEM format"
    if key == ("catalog", "root"):
        how = f"the index's root.json{where}, from whoever runs it"
    if is_secret and is_plain:
        how += f": `sudo sh -c 'umask 077; cat > {shlex.quote(str(path))}'`, type it, Ctrl-D"
    try:
        return None if path.read_bytes().strip() else (f"an empty file{where}", how)
    except FileNotFoundError:
        return f"no file{where}", how
    except OSError as error:
        if isinstance(error, PermissionError) and path.parent == Path(CREDENTIALS):
            return None  # because systemd hands these over, and nobody but root reads them here
        return (error.strerror or type(error).__name__).lower(), f"a file{where} that this user can read"


def _is_plain(read: Draft, key: tuple[str | int, ...]) -> bool:
    """Return True where the value of `key` is surely a path, not a secret written there by mistake."""
    value: Any = read.raw
    for part in key:
        value = value[part]
    return str(value).startswith(("/", "./", "../", "credential:"))


def _locked_key(read: Draft) -> Iterator[Mistake]:
    try:
        if read.settings is not None:
            tls_of(read.settings.mqtt)
    except LockedKeyError:
        expected = "a key without one: `openssl pkey -in KEY -out NEW-KEY`"
        yield read.placed(Finding(("mqtt", "key_file"), "a key with a passphrase", expected))


def _summary(file: Path, settings: Settings, catalog: Catalog, service: Service | None) -> str:
    counts = {
        "line": len(settings.line),
        "stream": len(settings.stream),
        "product": sum(len(line.products) for line in settings.line.values()),
        "model": len(catalog.versions),
    }
    words = ", ".join(f"{number} {word}" if number == 1 else f"{number} {word}s" for word, number in counts.items())
    asked = f", as the user {service.user}" if service is not None else ""
    return f"ok: {words} ({file}, configuration {settings.configuration_hash[:12]}{asked})"
