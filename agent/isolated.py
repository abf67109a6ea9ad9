"""Starts Python children isolated from the working directory, the user's packages and PYTHON* variables.

`python -I isolated.py MODULE ARGUMENTS...` runs MODULE of the `agent` package that this file belongs to, installed or
not, in Python's isolated mode (-I).
"""

import faulthandler
import importlib.util
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from subprocess import Popen  # not for a child, which starts sooner without it

FOLDER: Final = "/"
"""Working directory of children; only root can write there."""
_PACKAGE: Final = "agent"


def command(module: str, *arguments: object) -> list[str]:
    """Return the command line that starts `module` of this package; use FOLDER as its working directory."""
    flags = ["-X", "faulthandler"] if faulthandler.is_enabled() else []  # or PYTHONFAULTHANDLER would end with us
    flags += ["-B"] if sys.dont_write_bytecode else []
    return [sys.executable, "-I", *flags, str(Path(__file__).absolute()), module, *map(str, arguments)]


def hand_over(process: "Popen[bytes]", request: bytes) -> None:
    """Write a request to a child's pipe, which stays open; one that has ended already gets nothing.

    Without an error, because its return code tells more. Its pipe is closed then, or leaving the `with` of Popen would
    raise BrokenPipeError for what is unsent.
    """
    assert process.stdin is not None, "it was started with a pipe"
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _run() -> None:
    """Run the module that the arguments name, from this very package rather than any other `agent`."""
    here = Path(__file__).absolute().parent
    # By file, because with the parent folder on sys.path everything in it could be imported.
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
