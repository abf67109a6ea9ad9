"""docs/plc.md is true where a machine can tell: its bindings find what the page says, in the documents shown."""

import re
from pathlib import Path

import pytest
import tomlkit
from support.page import blocks

from agent.app.configuration.json_path import reader
from agent.control.decoding.values import decode
from agent.settings.model import BindingSettings

PAGE = Path(__file__).parents[2] / "docs" / "plc.md"
FOUND = blocks(PAGE)
TEXT = PAGE.read_text(encoding="utf-8")
COMPARED = re.findall(r"^\| (`.*) \| `[^`|]*` \| `([^`|]*)` \| `'([^`|]*)'` \|$", TEXT, re.MULTILINE)
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


@pytest.mark.parametrize(("sent", "live", "product"), COMPARED)
def test_live_says_what_the_page_says_of_each_form(sent: str, live: str, product: str) -> None:
    for payload in re.findall(r"`([^`]+)`", sent):
        value = decode(payload.encode())
        assert value is not None
        assert value.text == live == product


def test_the_page_compares_three_codes_and_shows_rights_that_the_broker_is_shipped_with() -> None:
    assert len(COMPARED) == 3
    rights = (PAGE.parents[1] / "config" / "mosquitto" / "changeover.acl").read_text(encoding="utf-8").splitlines()
    (shown,) = (text for kind, text in FOUND if kind == "text" and "readwrite" in text)
    assert set(shown.splitlines()) <= set(rights)
