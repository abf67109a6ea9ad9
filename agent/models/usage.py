"""Uses of the catalog's versions by lines, products and schedules."""

from collections.abc import Iterator

from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.settings import Settings


def named(settings: Settings) -> Iterator[tuple[str, ModelReference, str]]:
    """Yield each place of the configuration that names a model, with the reference and its line's variant."""
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
    """Return the places of the configuration that mean `version`, in words."""
    found = (where for where, reference, variant in named(settings) if catalog.find(reference, variant) == version)
    return list(dict.fromkeys(found))
