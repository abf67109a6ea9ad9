"""A catalog in a folder of its own, with real files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.models.catalog import Catalog

Writer = Callable[..., Catalog]


def entry(name: str, variant: str, version: str, file: str, more: str = "") -> str:
    sha256 = hashlib.sha256(file.encode()).hexdigest()
    return (
        f'[[model]]\nname = "{name}"\nvariant = "{variant}"\nversion = "{version}"\n'
        f'file = "{file}"\nsha256 = "{sha256}"\n{more}\n'
    )


@pytest.fixture
def written(tmp_path: Path) -> Writer:
    """Write models.toml, load it. A row is (name, variant, version[, more keys]); each file holds its own name."""

    def write(*rows: tuple[str, ...]) -> Catalog:
        text = ""
        for name, variant, version, *more in rows:
            file = f"{name}-{variant}-{version}.onnx"
            (tmp_path / file).write_text(file)
            text += entry(name, variant, version, file, *more)
        catalog_file = tmp_path / "models.toml"
        catalog_file.write_text(text)
        return Catalog.load(catalog_file)

    return write
