"""Part of the memory budget that is guaranteed to each group."""

from pathlib import Path

import pytest
from support.two_groups import PLANT

from agent.app.children.groups.memory_shares import divided, guaranteed
from agent.app.children.memory_budget import Budgets
from agent.messages.children import MemoryLimit
from agent.settings import MemoryBudget, load

AUTO = MemoryBudget()


@pytest.mark.parametrize(
    ("wanted", "parts"),
    [
        ({"default": AUTO}, {"default": 1000}),
        ({"default": MemoryBudget(bytes=10)}, {"default": 1000}),
        ({"default": AUTO, "a": AUTO}, {"default": 500, "a": 500}),
        ({"default": AUTO, "a": MemoryBudget(bytes=300)}, {"default": 700, "a": 300}),
        ({"default": AUTO, "a": MemoryBudget(fraction=0.2), "b": AUTO}, {"default": 400, "a": 200, "b": 400}),
        ({"a": MemoryBudget(bytes=300), "b": MemoryBudget(bytes=100)}, {"a": 300, "b": 100}),
        ({"a": MemoryBudget(bytes=3000), "b": MemoryBudget(bytes=1000)}, {"a": 750, "b": 250}),
        ({"default": AUTO, "a": MemoryBudget(bytes=3000)}, {"default": 0, "a": 1000}),
    ],
)
def test_a_budget_is_divided(wanted: dict[str, MemoryBudget], parts: dict[str, int]) -> None:
    assert divided(wanted, 1000) == parts
    assert sum(parts.values()) <= 1000


@pytest.mark.parametrize(
    ("whole", "press"),
    [
        (Budgets(4000), MemoryLimit(1000)),
        (Budgets(4000, 8000), MemoryLimit(1000, 2000)),
        (Budgets(4000, 8000, models_in_device=True), MemoryLimit(1000, 2000)),
    ],
)
def test_a_groups_part_is_of_the_pool_that_models_live_in(tmp_path: Path, whole: Budgets, press: MemoryLimit) -> None:
    file = tmp_path / "changeover.toml"
    file.write_text(PLANT, encoding="utf-8")
    settings = load(file, {})
    assert list(settings.groups) == ["default", "press"]
    assert guaranteed(settings, whole)["press"] == press
