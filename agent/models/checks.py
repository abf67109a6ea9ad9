"""Checks the catalog against configuration and model files, and finds the settings that use a version."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.models.catalog_entry import rank_of
from agent.models.file_faults import differing, unsound
from agent.settings import Settings
from agent.settings.findings import Finding
from agent.settings.mistakes import Mistake, dotted


def missing_models(raw: dict[str, Any], catalog: Catalog) -> Iterator[Finding]:
    """Yield a finding for each key in the configuration's raw tables that names a model missing from `catalog`."""
    for path, text, variant in _named(raw):
        reference = ModelReference.parse(text) if isinstance(text, str) else None
        if reference is not None and catalog.find(reference, variant) is None:
            known = ", ".join(version.reference for version in catalog.versions if version.name == reference.name)
            models = f"a model of {catalog.file} ({', '.join(catalog.names()) or 'which is empty'})"
            yield Finding(path, f'"{reference}"', f"one of {known}" if known else models)


def unknown_variants(raw: dict[str, Any], catalog: Catalog) -> Iterator[Finding]:
    """Yield a finding for each key in the configuration's raw tables that names a variant without a rank."""
    known = {version.variant for version in catalog.versions}
    for path, text in _variants(raw):
        is_word = isinstance(text, str) and ModelReference.parse(f"model:{text}") is not None
        if is_word and text not in known and rank_of(str(text)) is None:
            wanted = f"n, s, m, l, x, one of them with a suffix, or a variant of {catalog.file}"
            yield Finding(path, f'"{text}"', f"{wanted} ({', '.join(sorted(known)) or 'which is empty'})")


def _variants(raw: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    for name, line in _table(raw.get("line")).items():
        yield ("line", name, "variant"), _table(line).get("variant")
    for table, key in (("schedule", "variant"), ("bandwidth", "max_variant")):
        rules = raw.get(table)
        for index, rule in enumerate(rules if isinstance(rules, list) else ()):
            yield (table, index, key), _table(rule).get(key)


def _named(raw: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], object, str]]:
    lines = {name: line for name, line in _table(raw.get("line")).items() if isinstance(line, dict)}
    for name, line in lines.items():
        variant = str(line.get("variant", "n"))
        yield ("line", name, "default"), line.get("default"), variant
        for product, text in _table(line.get("products")).items():
            yield ("line", name, "products", product), text, variant
    rules = raw.get("schedule")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict):
            yield ("schedule", index, "model"), rule.get("model"), "n"


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def artifact_mistakes(
    catalog: Catalog, is_tensors: Callable[[ModelVersion], bool] = lambda _: False
) -> Iterator[Mistake]:
    """Yield the mistakes in all model files and folders of golden images of the catalog; hashes every file.

    `is_tensors` returns True for a version that need take no picture, because requests alone use it.
    """
    for index, entered in enumerate(catalog.versions):
        version = replace(entered, is_tensors=is_tensors(entered))
        if version.source and not Path(version.path).is_file():
            continue  # because it is fetched by the agent, or by `models fetch`
        faults = list(differing(version)) or list(unsound(version))
        for fault in faults:
            key = dotted(("model", index, *fault.key))
            yield Mistake(str(catalog.file), key, fault.found, fault.wanted)
        if version.golden is not None and not Path(version.golden).is_dir():
            wanted = f"a folder of pictures for {version.reference}"
            yield Mistake(str(catalog.file), dotted(("model", index, "golden")), f"no folder {version.golden}", wanted)


def is_for_requests_alone(settings: Settings, name: str) -> bool:
    """Return True where models of a name may be no detectors: no line names them, and the gateway serves tensors."""
    is_served = settings.web.is_on and settings.web.gateway
    return is_served and name not in {reference.name for _, reference, _ in named(settings)}


def named(settings: Settings) -> Iterator[tuple[str, ModelReference, str]]:
    """Yield, for each setting that names a model: its name in words, the reference, and the default variant there."""
    for id_, line in settings.line.items():
        yield f"the default of {id_}", line.default, line.variant
        for product, reference in line.products.items():
            yield f"product {product!r} of {id_}", reference, line.variant
    for number, rule in enumerate(settings.schedule):
        ruled, where = settings.line.get(rule.line), f"schedule[{number}]"
        if ruled is not None and rule.model is not None:
            yield where, rule.model, ruled.variant
        elif ruled is not None and rule.variant is not None:
            yield from ((where, reference, rule.variant) for reference in (ruled.default, *ruled.products.values()))


def uses(settings: Settings, catalog: Catalog, version: ModelVersion) -> list[str]:
    """Return the settings, in words, whose model references resolve to `version`."""
    found = (where for where, reference, variant in named(settings) if catalog.find(reference, variant) == version)
    return list(dict.fromkeys(found))
