"""The demo's parts fit together: each product of the script has a model, and parts that the belt can show."""

import signal
from pathlib import Path

import pytest

from agent.demo import assets, plant_files
from agent.demo.conveyor import PRODUCTS
from agent.demo.demo_command import run
from agent.demo.plc import SCRIPT
from agent.messages.errors import MistakeError, TransientError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog


def test_each_product_of_the_script_can_be_shown_and_checked() -> None:
    catalog = Catalog.load(plant_files.demo_models())
    for product in SCRIPT:
        if product == plant_files.UNKNOWN:
            assert product not in plant_files.PRODUCTS
            continue
        parts = PRODUCTS[plant_files.FINER.get(product, product)]
        reference = ModelReference.parse(plant_files.PRODUCTS[product])
        assert reference is not None
        version = catalog.find(reference, "n")
        assert version is not None
        assert version.classes == parts.classes
    assert plant_files.PRODUCTS.keys() <= {*SCRIPT}


def test_an_installed_demo_finds_its_models_in_the_project_s_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = plant_files.demo_models()
    installed = tmp_path / "site-packages"
    monkeypatch.chdir(here.parents[2])
    assert plant_files.demo_models(installed) == here
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MistakeError, match="run the demo in the project's folder"):
        plant_files.demo_models(installed)


def test_ctrl_c_ends_a_demo_whose_starter_ignores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    found: list[object] = []

    def fetch() -> assets.Assets:
        found.extend(signal.getsignal(number) for number in before)
        raise TransientError("enough")

    monkeypatch.setattr(assets, "fetch", fetch)
    try:
        with pytest.raises(TransientError):
            run(seconds=1, as_json=True, view=False)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found == [signal.default_int_handler] * 2
