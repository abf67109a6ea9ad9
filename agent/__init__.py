"""Changeover: vision agent for production lines that swaps models when the product changes."""

import os
from typing import Final

NUMBER: Final = "0.1.0"
"""Number of the last release; a new release changes it here only."""
_HERE: Final = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - children import this first: no pathlib
BUILT: Final = "built_from.txt"
"""File that setup.py adds to a wheel and an sdist; it holds the commit that they were built from."""
_SHOWN: Final = 9


def __getattr__(name: str) -> str:
    """Compute `__version__` on access rather than at import, because it reads files."""
    if name == "__version__":
        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def version() -> str:
    """Return the package's version: the release number, and `+gCOMMIT` behind it where the source commit is known."""
    commit = (_text(_HERE, BUILT) or _checked_out(os.path.dirname(_HERE)))[:_SHOWN]  # noqa: PTH120 - as above
    return f"{NUMBER}+g{commit}" if commit else NUMBER


def _checked_out(checkout: str) -> str:
    """Return a git checkout's commit, else ""; reads .git itself, because git refuses other users' folders."""
    folder = os.path.join(checkout, ".git")  # noqa: PTH118 - as above
    place = _text(checkout, ".git")  # a file, in a worktree
    if place.startswith("gitdir: "):
        folder = os.path.join(checkout, place.removeprefix("gitdir: "))  # noqa: PTH118 - as above
    head = _text(folder, "HEAD")
    if not head.startswith("ref: "):
        return head
    ref = head.removeprefix("ref: ")
    common = os.path.join(folder, _text(folder, "commondir") or ".")  # noqa: PTH118 - as above
    packed = (line.partition(" ") for line in _text(common, "packed-refs").splitlines())
    return _text(folder, ref) or _text(common, ref) or next((commit for commit, _, name in packed if name == ref), "")


def _text(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as above
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


if __name__ == "__main__":
    print(version())  # noqa: T201 - for scripts/install
