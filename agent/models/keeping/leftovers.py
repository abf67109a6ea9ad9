"""Deletes what jobs that were killed or failed have left in the store."""

import shutil
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.files import locked

PARTS: Final = ".parts"
"""Folder of the store for unfinished files."""
DRAFT: Final = ".draft-fetched-"
STICK: Final = "stick-"
"""Beginning of the name of what an import that was cut off has copied."""
_LIVES_S: Final = 7 * 86400.0
"""Age after which a part is given up."""
_PATIENCE_S: Final = 1.0
_OF_A_PART: Final = (".part", ".json", ".new")


def sweep(store_dir: Path, parts: Path) -> None:
    """Delete drafts, and parts that no later job can go on with; call it with the lock of the parts held."""
    for draft in store_dir.glob(f"{DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)
    for cut in parts.glob(f"{STICK}*"):
        with suppress(OSError):
            if abs(time.time() - cut.stat().st_mtime) >= _LIVES_S:
                shutil.rmtree(cut, ignore_errors=True)
    kept = {path.stem for path in parts.glob("*.part") if _is_kept(path)}
    for path in parts.iterdir():
        if path.suffix in _OF_A_PART and (path.stem not in kept or path.suffix == ".new"):
            with suppress(OSError):
                path.unlink()


def sweep_at_start(store_dir: Path, wanted: Container[str] | None) -> None:
    """Delete drafts, and parts of files of which `wanted` lacks the sha256; none while another process fetches.

    With None for `wanted`, parts stay as long as a later job may go on with them.
    """
    parts = store_dir / PARTS
    with suppress(OSError):
        if not parts.is_dir():
            return
        with locked(parts / "lock", _PATIENCE_S):
            sweep(store_dir, parts)
            for path in parts.iterdir():
                if wanted is not None and path.suffix in _OF_A_PART and path.stem not in wanted:
                    path.unlink()


def _is_kept(part: Path) -> bool:
    try:
        info = part.stat()
        return part.with_suffix(".json").exists() and info.st_size > 0 and abs(time.time() - info.st_mtime) < _LIVES_S
    except OSError:
        return False
