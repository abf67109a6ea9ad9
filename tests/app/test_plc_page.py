"""docs/plc.md is true where a machine can tell: its bindings find what the page says, in the documents shown."""

from pathlib import Path

import pytest
import tomlkit
from support.page import blocks

from agent.app.configuration.json_path import reader
from agent.control.decoding.values import decode
from agent.settings.model import BindingSettings

PAGE = Path(__file__).parents[2] / "docs" / "plc.md"
FOUND = blocks(PAGE)
BINDINGS = [place for place, (kind, text) in enumerate(FOUND) if kind == "toml" and "[[binding]]" in text]


@pytest.mark.parametrize("place", BINDINGS)
def test_a_binding_finds_the_product_in_the_document_below_it(place: int) -> None:
    (_, written), (kind, document), (_, product) = FOUND[place : place + 3]
    (binding,) = tomlkit.parse(written).unwrap()["binding"]
    path = BindingSettings.model_validate(binding).value
    assert kind == "json"
    assert path is not None
    value = decode(document.encode(), reader(path))
    assert value is not None
    assert value.text == product.strip()


def test_the_page_has_its_bindings_and_its_diagram() -> None:
    assert len(BINDINGS) == 2
    assert [kind for kind, _ in FOUND].count("mermaid") == 1
