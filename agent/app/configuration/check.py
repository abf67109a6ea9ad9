"""`changeover check`: reports every mistake in configuration, catalog and named files at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agent.models.catalog import Catalog
from agent.models.checks import artifact_mistakes, missing_models, unknown_variants
from agent.mqtt.endpoint.link_settings import tls_of
from agent.mqtt.endpoint.tls import LockedKeyError
from agent.settings import CatalogSettings, Draft, Finding, Mistake, Settings, SettingsError, draft
from agent.settings.mistakes import dotted

_READABLE: Final = ("password_file", "ca_file", "cert_file", "key_file")


@dataclass(frozen=True)
class Checked:
    """Result of a check: all mistakes, or a summary with the checked settings and catalog."""

    mistakes: tuple[Mistake, ...]
    summary: str = ""
    settings: Settings | None = None
    catalog: Catalog | None = None


def check(config: Path | None, environ: Mapping[str, str]) -> Checked:
    """Check the configuration in `config` (None: the usual places) with all named files, models included."""
    try:
        read = draft(config, environ)
    except SettingsError as error:
        return Checked(error.mistakes)
    mistakes = [*read.mistakes, *_unreadable(read), *_locked_key(read)]
    catalog = None
    try:
        catalog = _catalog(read)
    except SettingsError as error:
        mistakes += error.mistakes
    if catalog is not None:
        named = (*missing_models(read.raw, catalog), *unknown_variants(read.raw, catalog))
        mistakes += [read.placed(finding) for finding in named]
        mistakes += artifact_mistakes(catalog)
        mistakes += _unreadable_outputs(catalog)
    if mistakes or read.settings is None or catalog is None:
        return Checked(tuple(mistakes))
    return Checked((), _summary(read.file, read.settings, catalog), read.settings, catalog)


def _unreadable_outputs(catalog: Catalog) -> Iterator[Mistake]:
    """Yield a mistake for each model whose output layout a load would refuse, where its file alone shows that."""
    from agent.inference.yolo.declared import refusal_of_output  # noqa: PLC0415 - only a check needs it

    for index, version in enumerate(catalog.versions):
        refusal = refusal_of_output(version)
        if refusal is not None:
            key = dotted(("model", index, "layout" if version.layout else "file"))
            yield Mistake(str(catalog.file), key, str(refusal), "a model whose output can be read")


def _catalog(read: Draft) -> Catalog | None:
    """Load the catalog, also where other sections are wrong; None where its own section is."""
    try:
        where = CatalogSettings.model_validate(read.raw["catalog"], context={"base": read.file.absolute().parent})
    except ValidationError:
        return None
    if not where.file.exists():
        found = read.placed(
            Finding(("catalog", "file"), f"no file {where.file}", "the catalog: `changeover models add`")
        )
        raise SettingsError([found])
    return Catalog.load(where.file)


def _unreadable(read: Draft) -> Iterator[Mistake]:
    if read.settings is None:
        return
    files: list[tuple[tuple[str | int, ...], Path | None]] = [
        (("mqtt", key), getattr(read.settings.mqtt, key)) for key in _READABLE
    ]
    files += [(("stream", index, "ca_file"), one.ca_file) for index, one in enumerate(read.settings.stream)]
    for key, path in files:
        error = _read_error(path) if path is not None else None
        if error is not None:
            yield read.placed(Finding(key, error, "a file that this user can read"))


def _read_error(path: Path) -> str | None:
    try:
        path.read_bytes()
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    return None


def _locked_key(read: Draft) -> Iterator[Mistake]:
    try:
        if read.settings is not None:
            tls_of(read.settings.mqtt)
    except LockedKeyError:
        expected = "a key without one: `openssl pkey -in KEY -out NEW-KEY`"
        yield read.placed(Finding(("mqtt", "key_file"), "a key with a passphrase", expected))


def _summary(file: Path, settings: Settings, catalog: Catalog) -> str:
    counts = {
        "line": len(settings.line),
        "stream": len(settings.stream),
        "product": sum(len(line.products) for line in settings.line.values()),
        "model": len(catalog.versions),
    }
    words = ", ".join(f"{number} {word}" if number == 1 else f"{number} {word}s" for word, number in counts.items())
    return f"ok: {words} ({file}, configuration {settings.configuration_hash[:12]})"
