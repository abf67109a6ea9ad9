"""The list of models in use, which control keeps for the commands that delete files of the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "models_in_use.json"
"""Name of the list in the state folder."""


def encoded(uses: Mapping[str, str]) -> bytes:
    """Return the list of model files in use by path, each with its use in words such as "active on line-1"."""
    return msgspec.json.encode(dict(uses))


def read_in_use(state_dir: Path) -> dict[str, str]:
    """Return the uses of model files by path; empty where none was written, or what is there cannot be read."""
    try:
        return msgspec.json.decode((state_dir / NAME).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
