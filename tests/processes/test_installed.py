"""Versions of installed libraries, whatever their packages are called."""

from pathlib import Path

import pytest

from agent.processes.package_version import version_of


def test_a_module_of_a_package_with_another_name_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_runtime").mkdir()
    (tmp_path / "odd_runtime" / "__init__.py").write_text("raise ImportError('nobody imports it to ask')")
    described = tmp_path / "odd_runtime_gpu-1.2.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-runtime-gpu\nVersion: 1.2\n")
    (described / "top_level.txt").write_text("odd_runtime\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("odd_runtime") == "1.2"


def test_a_module_without_a_package_is_there_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copied_runtime.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("copied_runtime") == "unknown"


def test_what_is_not_there_has_no_version() -> None:
    assert version_of("no_such_runtime") is None
