"""Model check: loads each model that a line names in a subprocess, and compares its detections on golden images."""

from collections.abc import Iterator
from typing import Final

import msgspec

from agent.app.children.memory_budget import decide
from agent.doctor.finding import Finding, fail, note, ok
from agent.doctor.subprocess_runner import run_apart
from agent.messages.errors import TransientError
from agent.messages.references import ModelReference, ModelVersion
from agent.messages.short_lived.probe_results import ProbedModel
from agent.models.catalog import Catalog
from agent.models.checks import named
from agent.settings import Settings
from agent.trust.words import TrustReader

_MODULE: Final = "agent.inference.validation.probe_process"
_DEADLINE_S: Final = 300.0
"""Timeout of one model; long, because an engine may be built at its first load."""


def try_models(settings: Settings) -> Iterator[Finding]:
    """Try each model version that a line, product or schedule names; the others are only counted."""
    catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
    used: dict[str, ModelVersion] = {}
    for reference, variant in named_models(settings):
        version = catalog.find(reference, variant)
        if version is None:
            yield fail(f"model {reference}", f"is not in {catalog.file}: `changeover models add {reference} FILE`")
        else:
            used[version.reference] = version
    budget_bytes = decide(settings).of_models
    trust = TrustReader(settings)
    for version in used.values():
        why = trust.distrust(version)
        if why is None:
            yield _try(version, settings, budget_bytes)
        else:
            yield fail(f"model {version.reference}", f"is never loaded, {why.reason}: {why}")
    if left := len(catalog.versions) - len(used):
        yield note("models", f"{left} more in the catalog are not named by any line, and were not tried")


def named_models(settings: Settings) -> Iterator[tuple[ModelReference, str]]:
    """Yield the model references that lines, products and schedules name, each with the variant set there."""
    return ((reference, variant) for _, reference, variant in named(settings))


def _try(version: ModelVersion, settings: Settings, budget_bytes: int) -> Finding:
    subject = f"model {version.reference}"
    arguments = [settings.device.compute, str(settings.device.cache_dir)]
    try:
        said = run_apart(_MODULE, arguments, msgspec.json.encode(version), _DEADLINE_S)
    except TransientError as error:
        return fail(subject, f"{error}; the runtime does not stand this model on this device")
    tried = msgspec.json.decode(said, type=ProbedModel)
    if tried.is_unprepared:
        return note(subject, f"{tried.error}; a changeover to it would wait for that")
    if tried.error is not None:
        return fail(subject, tried.error)
    golden = "golden pictures as expected" if version.golden else "no golden pictures to prove it on"
    runs = f"{tried.reading}, loads in {tried.load_ms:.0f} ms on {tried.processor}"
    text = f"{runs} and takes about {tried.bytes / 1e6:.0f} MB, {golden}"
    if tried.bytes > budget_bytes:
        return note(subject, f"{text}; that is more than the budget of {budget_bytes / 1e6:.0f} MB")
    return ok(subject, text)
