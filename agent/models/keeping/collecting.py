"""Finds what the store keeps that nothing names any more, and deletes it, the one used longest ago first."""

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.messages.references import ModelVersion
from agent.models.catalog_entry import BLOBS

_BLOCK_BYTES: Final = 512
YOUNG_S: Final = 3600.0
"""Age below which a release stays, because the job that fetched it may not have entered it yet."""


@dataclass(frozen=True)
class StoredRelease:
    """One folder of the store."""

    folder: Path
    bytes: int
    used_s: float
    """Time of its last use, as `time.time`."""
    why: str
    """Reason to keep or delete it."""
    stays: bool


def survey(
    versions: Iterable[ModelVersion], store_dir: Path, uses: Mapping[str, str], now_s: float | None = None
) -> list[StoredRelease]:
    """Return all releases of the store, the one used longest ago first, each with why it stays or goes.

    A release stays where the catalog's `versions` name it, where it is in `uses` (path and use of a model's file), and
    while it is young.
    """
    now_s = time.time() if now_s is None else now_s
    names = {Path(version.path).parent: f"is {version.reference} of the catalog" for version in versions}
    names |= {Path(path).parent: use for path, use in uses.items()}
    try:
        folders = sorted((store_dir.absolute() / BLOBS).iterdir())
    except FileNotFoundError:
        return []
    return sorted((_release(folder, names, now_s) for folder in folders), key=lambda release: release.used_s)


def delete(releases: Iterable[StoredRelease], needed_bytes: int | None = None) -> int:
    """Delete releases that go, until `needed_bytes` are freed; None: all of them. Return the bytes freed."""
    freed_bytes = 0
    for release in releases:
        if needed_bytes is not None and freed_bytes >= needed_bytes:
            break
        if not release.stays:
            shutil.rmtree(release.folder, ignore_errors=True)
            freed_bytes += 0 if release.folder.exists() else release.bytes
    return freed_bytes


def size_of(folder: Path) -> int:
    """Return the bytes that a folder's files take on the disk; what goes meanwhile counts nothing."""
    total_bytes = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total_bytes += (Path(inner) / name).lstat().st_blocks * _BLOCK_BYTES
    return total_bytes


def _release(folder: Path, names: Mapping[Path, str], now_s: float) -> StoredRelease:
    times = [folder.stat().st_mtime, *(max(file.stat().st_atime, file.stat().st_mtime) for file in folder.iterdir())]
    used_s, why = max(times), names.get(folder)
    age_s = now_s - folder.stat().st_mtime
    if why is None and 0 <= age_s < YOUNG_S:
        why = f"came {age_s / 60:.0f} min ago, and may be about to be entered"
    gone = f"nothing names it; last used {max(now_s - used_s, 0.0) / 86400:.0f} days ago"
    return StoredRelease(folder, size_of(folder), used_s, why or gone, stays=why is not None)
