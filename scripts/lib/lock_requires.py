"""Writes lock/requires.json: what each locked package asks for, as its own wheel says."""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pip._vendor.packaging.requirements import Requirement


def main(reports: Path, target: Path) -> None:
    """Read pip's reports from a folder and write what they say into one file, sorted."""
    packages = {}
    for file in sorted(reports.glob("*.json")):
        for one in json.loads(file.read_text(encoding="utf-8"))["install"]:
            metadata = one["metadata"]
            key = f"{_normalized(metadata['name'])}=={metadata['version']}"
            packages.setdefault(key, set()).update(_asked(metadata))
    extras = _extras_asked_for(packages)
    told = {
        key: sorted(text for text in packages[key] if _can_hold(text, extras[_name(key)])) for key in sorted(packages)
    }
    target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _asked(metadata: dict[str, Any]) -> list[str]:
    return [str(Requirement(text)) for text in metadata.get("requires_dist", [])]


def _name(key: str) -> str:
    return key.partition("==")[0]


def _normalized(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _extras_asked_for(packages: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the extras of each package that another one asks for."""
    extras: dict[str, set[str]] = defaultdict(set)
    before = -1
    while before != (before := sum(map(len, extras.values()))):
        for key, texts in packages.items():
            for one in (Requirement(text) for text in texts if _can_hold(text, extras[_name(key)])):
                extras[_normalized(one.name)] |= one.extras
    return extras


def _can_hold(text: str, extras: set[str]) -> bool:
    """Tell whether a requirement can hold: without an extra, or with one that somebody asks for."""
    marker = Requirement(text).marker
    return marker is None or "extra" not in str(marker) or any(f'"{extra}"' in str(marker) for extra in extras)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
