"""The demo's parts fit together: each product of the script has a model, and parts that the belt can show."""

import signal
from pathlib import Path

import pytest

from agent.demo import assets, plant_files
from agent.demo.conveyor import PRODUCTS
from agent.demo.demo_command import Options, run
from agent.demo.plc import SCRIPT
from agent.messages.errors import MistakeError, TransientError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog

ROOT = Path(__file__).parents[2]


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


def test_ctrl_c_ends_a_demo_whose_starter_ignores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    found: list[object] = []

    def fetch() -> assets.Assets:
        found.extend(signal.getsignal(number) for number in before)
        raise TransientError("enough")

    monkeypatch.setattr(assets, "fetch", fetch)
    try:
        with pytest.raises(TransientError):
            run(Options(1, as_json=True))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found == [signal.default_int_handler] * 2


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give what pip writes into site-packages, for an installed package that stands nowhere near the checkout."""
    written = tmp_path / "site-packages" / "changeover-0.0.1.dist-info"
    written.mkdir(parents=True)
    (written / "METADATA").write_text("Metadata-Version: 2.1\nName: changeover\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(str(written.parent))
    monkeypatch.setattr(plant_files, "_PROJECT", written.parent)
    monkeypatch.chdir(tmp_path)
    return written


def test_an_installed_demo_finds_its_models_in_the_checkout_that_pip_installed(installed: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "a checkout" / "config" / "demo" / "models.toml"
    catalog.parent.mkdir(parents=True)
    catalog.touch()
    (installed / "direct_url.json").write_text(f'{{"url": "{catalog.parents[2].as_uri()}", "dir_info": {{}}}}')
    assert plant_files.demo_models() == catalog


def test_an_installed_demo_finds_its_models_in_the_current_folder(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed.exists()
    monkeypatch.chdir(ROOT)
    assert plant_files.demo_models() == ROOT / "config" / "demo" / "models.toml"


@pytest.mark.parametrize(
    "noted", ["", "{}", "[", '{"url": "https://x.example/changeover.whl"}', '{"url": "file:///nowhere"}']
)
def test_a_demo_without_its_models_says_where_they_would_be(installed: Path, noted: str) -> None:
    (installed / "direct_url.json").write_text(noted)
    with pytest.raises(MistakeError, match="not installed: run it in a checkout"):
        plant_files.demo_models()
