"""Build hook: takes the version from agent/__init__.py, and writes the commit into what is built."""

import runpy
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

_AGENT: dict[str, Any] = runpy.run_path(str(Path(__file__).parent / "agent" / "__init__.py"))
_VERSION: str = _AGENT["version"]()


def _write_commit(package: Path) -> None:
    commit = _VERSION.partition("+g")[2]
    if commit and package.is_dir():
        (package / _AGENT["BUILT"]).write_text(f"{commit}\n", encoding="utf-8")


class _BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            _write_commit(Path(self.build_lib) / "agent")


class _Sdist(sdist):
    def make_release_tree(self, base_dir: Any, files: Any) -> None:  # noqa: ANN401 - as setuptools types them
        super().make_release_tree(base_dir, files)
        _write_commit(Path(base_dir) / "agent")


setup(version=_VERSION, cmdclass={"build_py": _BuildPy, "sdist": _Sdist})
