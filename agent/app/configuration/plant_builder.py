"""Builds `Plant`, control's view of the configuration, from settings and catalog."""

from agent.app.configuration.json_path import reader
from agent.app.configuration.ordered_models import supply_of
from agent.control.plant import Binding, LineRules, Plant
from agent.messages.canary import COMPARISONS
from agent.models.catalog import Catalog
from agent.models.catalog_entry import rank_of
from agent.settings import BindingSettings, LineSettings, Settings


def plant_of(settings: Settings, catalog: Catalog, boot: str) -> Plant:
    """Build the plant from settings and catalog. Raises MistakeError for an invalid JSON path."""
    return Plant(
        base=base_topic(settings),
        boot=boot,
        lines={id_: _rules(settings, id_, line) for id_, line in settings.line.items()},
        streams={stream.id: stream.line for stream in settings.stream},
        groups=tuple(settings.groups),
        find=catalog.find,
        variants=catalog.variants,
        rank=lambda name, variant: _rank(catalog, name, variant),
        bindings=tuple(_binding(binding) for binding in settings.binding),
        schedule=settings.schedule,
        preloads=settings.device.preload,
        models=catalog.versions,
        canary=settings.canary,
        keep_dir=str(settings.device.state_dir / COMPARISONS),
        supply=supply_of(settings, catalog, lambda other: plant_of(settings, other, boot)),
        unsafe=tuple(version.reference for version in catalog.versions if version.unsafe),
    )


def base_topic(settings: Settings) -> str:
    """Return the prefix of all topics of the device: `{root}/{device}`."""
    return f"{settings.mqtt.root}/{settings.device.id}"


def _rules(settings: Settings, id_: str, line: LineSettings) -> LineRules:
    return LineRules(
        default=line.default,
        variant=line.variant,
        products=line.products,
        changeover_timeout_s=line.changeover_timeout_s,
        dwell_s=line.dwell_s,
        prepare_s=line.prepare_s,
        bandwidth=tuple(rule for rule in settings.bandwidth if rule.line == id_),
        group=line.group,
        candidate=line.candidate,
    )


def _binding(binding: BindingSettings) -> Binding:
    return Binding(binding.topic, binding.line, reader(binding.value) if binding.value is not None else None)


def _rank(catalog: Catalog, name: str, variant: str) -> float:
    """Return the rank of a variant; an unknown word ranks lowest."""
    own = [one.rank for one in catalog.versions if (one.name, one.variant) == (name, variant)]
    others = [one.rank for one in catalog.versions if one.variant == variant]
    return next(iter([*own, *others]), rank_of(variant) or 0.0)
