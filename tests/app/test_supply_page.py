"""docs/supply.md is true: its tables load, its order is taken, its commands exist."""

import json
from pathlib import Path

import click
import pytest
import tomlkit
from support.page import blocks

from agent.app.configuration.plant_builder import plant_of
from agent.cli import _commands
from agent.models.catalog import Catalog
from agent.settings import load

PAGE = Path(__file__).parents[2] / "docs" / "supply.md"
PLANT = """
[[stream]]
id = "cam-1"
line = "line-1"
source = "clip.avi"
[line.line-1]
default = "cap-check"
"""


def found(kind: str, start: str = "") -> list[str]:
    return [text for name, text in blocks(PAGE) if name == kind and text.startswith(start)]


@pytest.mark.parametrize("table", found("toml", "# changeover.toml"))
def test_each_table_of_the_configuration_is_taken(tmp_path: Path, table: str) -> None:
    (tmp_path / "changeover.toml").write_text(table + PLANT)
    assert load(tmp_path / "changeover.toml", {}).line


@pytest.mark.parametrize("table", found("toml", "# models.toml"))
def test_each_entry_of_the_catalog_is_taken(tmp_path: Path, table: str) -> None:
    (tmp_path / "models.toml").write_text(table)
    assert len(Catalog.load(tmp_path / "models.toml").versions) == len(tomlkit.parse(table)["model"])


def test_the_order_is_taken(tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text(PLANT)
    (tmp_path / "models.toml").write_text("")
    plant = plant_of(load(tmp_path / "changeover.toml", {}), Catalog.load(tmp_path / "models.toml"), "boot")
    (order,) = (json.loads(text) for text in found("json"))
    (version,) = plant.supply.versions(plant.supply.read(order["models"]))
    assert version.reference == "cap-check:n@4"


def test_each_command_exists() -> None:
    commands = [line.split() for text in found("sh") for line in text.splitlines()]
    assert len(commands) >= 3
    for words in commands:
        command: click.Command = _commands
        for word in words[1:]:
            if isinstance(command, click.Group):
                command = command.commands[word]
            else:
                assert any(word in option.opts for option in command.params), words
