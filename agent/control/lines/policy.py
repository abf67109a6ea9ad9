"""Selection of the model that a line should run, with its cause.

Model: rollback > operator > product > schedule > the line's default. Variant: explicit in the reference > schedule >
the line's. Caps then lower the variant, never the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from agent.control.plant import Plant
from agent.control.state import Cap, Line
from agent.control.weekly_schedule import Window, in_words
from agent.messages.payloads import Cause, Overrode
from agent.messages.references import ModelReference, ModelVersion


@dataclass(frozen=True)
class Choice:
    """The model that a line should run."""

    wanted: ModelVersion | None
    """The model with caps applied; None where the catalog has no such model."""
    asked: ModelVersion | None
    """The model without caps."""
    cause: Cause
    """The rule that decides now."""
    asker: Cause
    """The rule that chose the model."""
    degraded: bool = False
    """A cap allows no variant in the catalog, so the smallest one is used."""


def choose(plant: Plant, line: Line, window: Window | None = None) -> Choice:
    """Return the model that `line` should run under the schedule rules of `window`, or else under those of now.

    For an unknown product no model is chosen, so the serving one stays; if none serves, the default is chosen.
    """
    window = line.schedule.window if window is None else window
    (reference, asker), *below = _askers(line, window)
    found = _find(plant, line, window, reference)
    if found is None or reference is None:
        return Choice(None, None, asker, asker)
    asked = found if _is_explicit(reference, asker) else _decided(plant, line, found)
    if asked != found:
        asker = Cause("canary", value=found.reference, overrode=Overrode(asker.rule, found.reference))
    overridden = ((_find(plant, line, window, one), cause) for one, cause in below)
    asker = _over(
        asker, next(((model, cause) for model, cause in overridden if model and cause.rule != "default"), None)
    )
    cause = _variant_cause(plant, line, window, reference, asked) or asker
    wanted, cap, degraded = _capped(plant, line, reference, asked)
    if cap is not None:
        cause = Cause(cap.rule, cap.topic, cap.value, Overrode(asker.rule, asked.reference))
    return Choice(wanted, asked, cause, cause if cap is not None else asker, degraded)


def would_run(plant: Plant, line: Line, reference: ModelReference) -> ModelVersion | None:
    """Return the model that the line would run for `reference`; None where the catalog has none."""
    found = _find(plant, line, line.schedule.window, reference)
    return _capped(plant, line, reference, _decided(plant, line, found))[0] if found is not None else None


def ready_models(plant: Plant, line: Line) -> tuple[ModelReference, ...]:
    """Return references of the models that fit the line's product; empty without a known product.

    A reference that names a variant allows only that one, or the one that a cap leaves. A variant left by a cap stays
    right after the cap is lifted, until the named one serves or fails. A rollback frees the version, never the variant.
    Beside a named version, the one that a comparison decided for is right, and a candidate that answers frames.
    """
    own = line.own
    asked = plant.find(own, line.rules.variant) if own is not None else None
    if own is None or asked is None:
        return ()
    rollback = line.selection.rollback
    is_rolled_back = rollback is not None and rollback.reference.name == own.name
    version = None if is_rolled_back else own.version
    versions = [version] if version is None else [version, *_versions_beside(line, asked)]
    if own.variant is None:
        return tuple(ModelReference(own.name, None, one) for one in versions)
    capped = _capped(plant, line, own, asked)[0].variant
    variants = dict.fromkeys([own.variant, capped, *_left_by_cap(plant, line, own, capped)])
    return tuple(ModelReference(own.name, variant, one) for variant in variants for one in versions)


def _versions_beside(line: Line, named: ModelVersion) -> list[str]:
    """Return the versions that are as right as a named one: decided for by a comparison, or its candidate's."""
    comparison, decided = line.comparison, line.selection.instead.get(named.reference)
    beside = [decided] if decided is not None else []
    if comparison is not None and comparison.answers and comparison.is_of_one_model:
        beside += [comparison.candidate] if comparison.stable in {named.reference, decided} else []
    parsed = [ModelReference.parse(one) for one in beside]
    return [one.version for one in parsed if one is not None and one.version is not None]


def _is_explicit(reference: ModelReference, asker: Cause) -> bool:
    """Return True for a version that an operator or a rollback named, which no comparison decides about."""
    return asker.rule in {"operator", "rollback"} and reference.version is not None


def _decided(plant: Plant, line: Line, found: ModelVersion) -> ModelVersion:
    """Return the version that comparisons decided for in place of `found`, as far as the catalog has it."""
    decided, model = line.selection.instead, found
    for _ in decided:
        reference = ModelReference.parse(decided.get(model.reference, ""))
        other = plant.find(reference, model.variant) if reference is not None else None
        if other is None or other.reference != str(reference):
            break
        model = other
    return model


def _left_by_cap(plant: Plant, line: Line, own: ModelReference, capped: str) -> list[str]:
    """Return the variant that an earlier cap left, while the line returns to the product's own."""
    left = line.serving.left_by_cap
    if left is None or left[0] != own:
        return []
    wanted = choose(plant, line).wanted
    is_returning = wanted is not None and wanted.name == own.name and wanted.variant in {own.variant, capped}
    return [left[1]] if is_returning else []


def missing(plant: Plant, line: Line) -> ModelReference | None:
    """Return the reference of the product or choice that the catalog lacks; None without one."""
    chosen, _ = next(_askers(line, line.schedule.window))
    named = [one for one in (line.own, chosen) if one is not None]
    return next((one for one in named if plant.find(one, line.rules.variant) is None), None)


def serves(active: str | None, allowed: tuple[ModelReference, ...]) -> bool:
    """Return True where the reference `active` matches one of `allowed`; a variant or version of None matches any."""
    model = ModelReference.parse(active) if active else None
    return model is not None and any(
        model.name == one.name and one.variant in {None, model.variant} and one.version in {None, model.version}
        for one in allowed
    )


def _askers(line: Line, window: Window) -> Iterator[tuple[ModelReference | None, Cause]]:
    """Yield each rule's reference and cause, the deciding rule first; never empty."""
    selection = line.selection
    for override in (selection.rollback, selection.operator):
        if override is not None:
            yield override.reference, override.cause
    if selection.product is not None and (line.own is not None or line.assignment.target is not None):
        yield line.own, selection.product_cause or Cause("product", value=selection.product)
    if window.model_rule is not None:
        yield window.model, Cause("schedule", value=in_words(window.model_rule))
    yield line.rules.default, Cause("default")


def _find(plant: Plant, line: Line, window: Window, reference: ModelReference | None) -> ModelVersion | None:
    return plant.find(reference, window.variant or line.rules.variant) if reference is not None else None


def _over(cause: Cause, below: tuple[ModelVersion | None, Cause] | None) -> Cause:
    if below is None or below[0] is None:
        return cause
    return replace(cause, overrode=Overrode(below[1].rule, below[0].reference))


def _variant_cause(
    plant: Plant, line: Line, window: Window, reference: ModelReference, asked: ModelVersion
) -> Cause | None:
    """Return the schedule as the cause, if its variant changes the chosen version; else None."""
    rule = window.variant_rule
    usual = plant.find(reference, line.rules.variant)
    if rule is None or reference.variant is not None or usual is None or usual == asked:
        return None
    asker = next(_askers(line, window))[1]
    return Cause("schedule", value=in_words(rule), overrode=Overrode(asker.rule, usual.reference))


def _capped(
    plant: Plant, line: Line, reference: ModelReference, asked: ModelVersion
) -> tuple[ModelVersion, Cap | None, bool]:
    """Return the largest allowed variant with its cap; else the smallest, and True for degraded."""
    cap = min(line.limits.caps, key=lambda one: plant.rank(asked.name, one.max_variant), default=None)
    if cap is None or asked.rank <= (limit := plant.rank(asked.name, cap.max_variant)):
        return asked, None, False
    variants = [ModelReference(asked.name, variant, reference.version) for variant in plant.variants(asked.name)]
    newest = [version for variant in variants if (version := plant.find(variant, line.rules.variant)) is not None]
    found = newest if reference.version is not None else [_decided(plant, line, version) for version in newest]
    allowed = [version for version in found if version.rank <= limit]
    if allowed:
        return allowed[-1], cap, False
    smallest = next((version for version in found if version.rank < asked.rank), asked)
    return smallest, cap if smallest != asked else None, True
