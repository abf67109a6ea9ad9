"""The demo's parts fit together: each product of the script has a model, and parts that the belt can show."""

from pathlib import Path

import pytest

from agent.demo import plant
from agent.demo.conveyor import PRODUCTS
from agent.demo.plc import SCRIPT
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog


def test_each_product_of_the_script_can_be_shown_and_checked() -> None:
    catalog = Catalog.load(plant.demo_models())
    for product in SCRIPT:
        if product == plant.UNKNOWN:
            assert product not in plant.PRODUCTS
            continue
        parts = PRODUCTS[plant.FINER.get(product, product)]
        reference = ModelReference.parse(plant.PRODUCTS[product])
        assert reference is not None
        version = catalog.find(reference, "n")
        assert version is not None
        assert version.classes == parts.classes
    assert plant.PRODUCTS.keys() <= {*SCRIPT}


def test_an_installed_demo_finds_its_models_in_the_project_s_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = plant.demo_models()
    monkeypatch.setattr(plant, "_PROJECT", tmp_path / "site-packages")
    monkeypatch.chdir(here.parents[2])
    assert plant.demo_models() == here
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MistakeError, match="run the demo in the project's folder"):
        plant.demo_models()
