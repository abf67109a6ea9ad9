"""A catalog in a folder of its own, with real files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import write_tiny_model

from agent.models.catalog import Catalog

Writer = Callable[..., Catalog]


def entry(row: tuple[str, ...], path: Path) -> str:
    name, variant, version, *more = row
    return (
        f'[[model]]\nname = "{name}"\nvariant = "{variant}"\nversion = "{version}"\n'
        f'file = "{path.name}"\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n{"".join(more)}\n'
    )


@pytest.fixture
def written(tmp_path: Path) -> Writer:
    """Write models.toml, load it. A row is (name, variant, version[, more keys]); each file is a model of that name."""

    def write(*rows: tuple[str, ...]) -> Catalog:
        text = ""
        for row in rows:
            name = "-".join(row[:3])
            text += entry(row, write_tiny_model(tmp_path / f"{name}.onnx", names=(name,)))
        catalog_file = tmp_path / "models.toml"
        catalog_file.write_text(text)
        return Catalog.load(catalog_file)

    return write
