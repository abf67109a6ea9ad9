"""Start Python children that import nothing from where one stands. Run as a file, it is the first step of such a child.

`python -I isolated.py MODULE ARGUMENTS...` runs MODULE of the very `agent` package that this file lies in, installed or
not. Python's isolated mode (-I) ignores the working folder, the user's own packages and every PYTHON* variable.
"""

import faulthandler
import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = "/"
"""Working directory of children; only root can write there."""
_PACKAGE: Final = "agent"


def command(module: str, *arguments: object) -> list[str]:
    """Return the words that start `module` of this package in a child; use FOLDER as its working folder."""
    flags = ["-X", "faulthandler"] if faulthandler.is_enabled() else []  # or PYTHONFAULTHANDLER would end with us
    flags += ["-B"] if sys.dont_write_bytecode else []
    return [sys.executable, "-I", *flags, str(Path(__file__).absolute()), module, *map(str, arguments)]


def _run() -> None:
    """Run the module that the arguments name, with this package in the place of any other of its name."""
    here = Path(__file__).absolute().parent
    # By its file: with the parent on sys.path, whatever else lies there could be imported as well.
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None, "the package lies where this file lies"
    assert spec.loader is not None, "it is a source file"
    sys.modules[_PACKAGE] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()
