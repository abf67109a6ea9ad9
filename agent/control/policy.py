"""Which model a line should run, and why: operator > product > schedule > the line's default."""

from agent.control.state import Line, Plant
from agent.messages.payloads import Cause
from agent.messages.references import ModelReference, ModelVersion


def choose(plant: Plant, line: Line) -> tuple[ModelVersion | None, Cause]:
    """Return the model for `line`, and its cause; None where the choice names nothing that the catalog has.

    An unknown product chooses nothing: what serves is kept; where nothing does yet, it is the default.
    """
    if line.operator is not None:
        return _find(plant, line, line.operator), line.operator_cause or Cause("operator")
    if line.product is not None and (line.product_known or line.target is not None):
        reference = line.rules.products.get(line.product)
        cause = line.product_cause or Cause("product", value=line.product)
        return (_find(plant, line, reference) if reference else None), cause
    return _find(plant, line, line.rules.default), Cause("default")


def product_model(plant: Plant, line: Line) -> ModelVersion | None:
    """Return the model that the line's product asks for, whoever overrides it; None without a known product."""
    reference = line.rules.products.get(line.product) if line.product is not None else None
    return _find(plant, line, reference) if reference else None


def serves(active: str | None, wanted: ModelVersion) -> bool:
    """Return whether the active model is the wanted one, in any variant: two variants are equally ready."""
    reference = ModelReference.parse(active) if active else None
    return reference is not None and (reference.name, reference.version) == (wanted.name, wanted.version)


def _find(plant: Plant, line: Line, reference: ModelReference) -> ModelVersion | None:
    return plant.find(reference, line.rules.variant)
