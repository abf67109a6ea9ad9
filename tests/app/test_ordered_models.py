"""The catalog as orders use it: files to fetch, and the reason where no order is taken."""

import os
from pathlib import Path

import pytest

from agent.app.configuration.plant_builder import plant_of
from agent.control.plant import Supply
from agent.models.catalog import Catalog
from agent.models.catalog_entry import held_file
from agent.settings import load
from agent.trust.minisign import SecretKey

SHA = "1" * 64


def supply_of(folder: Path, catalog_settings: str = "") -> tuple[Supply, Catalog]:
    row = f'name = "cap"\nvariant = "n"\nversion = "1"\nfile = "https://host/cap.onnx"\nsha256 = "{SHA}"\n'
    (folder / "models.toml").write_text(f"[[model]]\n{row}")
    (folder / "changeover.toml").write_text(
        f'[device]\nid = "box"\nstate_dir = "state"\n[catalog]\nstore_dir = "store"\n{catalog_settings}\n'
        '[[stream]]\nid = "cam"\nline = "line-1"\nsource = "clip.avi"\n[line.line-1]\ndefault = "cap"\n'
    )
    settings = load(folder / "changeover.toml", {})
    catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
    return plant_of(settings, catalog, "boot").supply, catalog


def test_a_model_without_the_signature_that_is_asked_for_is_fetched_again(tmp_path: Path) -> None:
    key = f'trusted_keys = ["{SecretKey.make().public.line}"]'
    supply, catalog = supply_of(tmp_path)
    assert len(supply.missing) == 1
    file = held_file((tmp_path / "store").absolute(), catalog.fetched[0])
    file.parent.mkdir(parents=True)
    file.write_bytes(b"model")
    assert supply_of(tmp_path)[0].missing == ()
    assert len(supply_of(tmp_path, key)[0].missing) == 1
    file.with_name("model.onnx.minisig").write_bytes(b"signature")
    assert supply_of(tmp_path, key)[0].missing == ()


def test_a_catalog_in_a_closed_folder_is_told_with_the_commands_that_move_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert supply_of(tmp_path)[0].closed == ""
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    closed = supply_of(tmp_path)[0].closed
    moved = tmp_path / "state" / "models.toml"
    assert f"`sudo mv {tmp_path}/models.toml {moved} && sudo chown --reference={tmp_path}/state {moved}`" in closed
    assert closed.endswith(f'set catalog.file = "{moved}"')
