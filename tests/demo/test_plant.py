"""The demo's parts fit together: each product of the script has a model, and parts that the belt can show."""

from pathlib import Path

import pytest

from agent.demo import plant
from agent.demo.conveyor import PRODUCTS
from agent.demo.plc import SCRIPT
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give what pip writes into site-packages, for an installed package that stands nowhere near the checkout."""
    written = tmp_path / "site-packages" / "changeover-0.0.1.dist-info"
    written.mkdir(parents=True)
    (written / "METADATA").write_text("Metadata-Version: 2.1\nName: changeover\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(str(written.parent))
    monkeypatch.setattr(plant, "_PROJECT", written.parent)
    monkeypatch.chdir(tmp_path)
    return written


def test_an_installed_demo_finds_its_models_in_the_checkout_that_pip_installed(installed: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "a checkout" / "config" / "demo" / "models.toml"
    catalog.parent.mkdir(parents=True)
    catalog.touch()
    (installed / "direct_url.json").write_text(f'{{"url": "{catalog.parents[2].as_uri()}", "dir_info": {{}}}}')
    assert plant.demo_models() == catalog


def test_an_installed_demo_finds_its_models_in_the_current_folder(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed.exists()
    monkeypatch.chdir(ROOT)
    assert plant.demo_models() == ROOT / "config" / "demo" / "models.toml"


@pytest.mark.parametrize(
    "noted", ["", "{}", "[", '{"url": "https://x.example/changeover.whl"}', '{"url": "file:///nowhere"}']
)
def test_a_demo_without_its_models_says_where_they_would_be(installed: Path, noted: str) -> None:
    (installed / "direct_url.json").write_text(noted)
    with pytest.raises(MistakeError, match="not installed: run it in a checkout"):
        plant.demo_models()
