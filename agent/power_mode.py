"""Reads a Jetson's power mode from nvpmodel's files, because measurements in one mode do not hold in another."""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")
_STATUS: Final = "var/lib/nvpmodel/status"
_MODES: Final = "etc/nvpmodel.conf"


def power_mode(root: Path = _ROOT) -> str:
    """Return the name of the active mode, such as MAXN_SUPER; empty on devices without nvpmodel."""
    mode = re.search(r"pmode:(\d+)", _text(root / _STATUS))
    return power_modes(root).get(int(mode[1]), f"mode {int(mode[1])}") if mode is not None else ""


def power_modes(root: Path = _ROOT) -> dict[int, str]:
    """Return the name of each power mode by its number, as in `nvpmodel -m NUMBER`; empty without nvpmodel."""
    names = re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", _text(root / _MODES))
    return {int(number): name.strip(">") for number, name in names}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
