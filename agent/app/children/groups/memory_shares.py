"""Guaranteed parts of the memory budget, one for each group."""

from collections.abc import Mapping

from agent.app.children.memory_budget import Budgets
from agent.messages.children import MemoryLimit
from agent.settings import MemoryBudget, Settings


def guaranteed(settings: Settings, whole: Budgets) -> dict[str, MemoryLimit]:
    """Return the guaranteed part of `whole` of each group; all of them together take no more than that.

    A group's setting applies to the pool that models live in, and the other pool is divided in the same proportion.
    """
    parts = divided({group: one.memory for group, one in settings.groups.items()}, whole.of_models)
    return {group: _part(whole, part_bytes) for group, part_bytes in parts.items()}


def divided(wanted: Mapping[str, MemoryBudget], whole_bytes: int) -> dict[str, int]:
    """Divide a budget: first what groups ask for, scaled down where it is too much; the rest equally among "auto".

    A fraction is of the whole budget. A single group gets all of it.
    """
    if len(wanted) == 1:
        return dict.fromkeys(wanted, whole_bytes)
    asked = {group: one.resolve(whole_bytes, 0) for group, one in wanted.items()}
    total_bytes = sum(asked.values())
    if total_bytes > whole_bytes:
        asked = {group: size_bytes * whole_bytes // total_bytes for group, size_bytes in asked.items()}
    automatic = [group for group, one in wanted.items() if one == MemoryBudget()]
    rest_bytes = whole_bytes - sum(asked.values())
    return asked | dict.fromkeys(automatic, rest_bytes // len(automatic) if automatic else 0)


def as_limit(budgets: Budgets) -> MemoryLimit:
    """Return budgets as a limit."""
    return MemoryLimit(budgets.host, budgets.device or 0)


def _part(whole: Budgets, part_bytes: int) -> MemoryLimit:
    """Return the limits of a group that gets `part_bytes` of the pool that models live in."""
    of_models, device = max(1, whole.of_models), whole.device or 0
    if whole.models_in_device:
        return MemoryLimit(whole.host * part_bytes // of_models, part_bytes)
    return MemoryLimit(part_bytes, device * part_bytes // of_models)
