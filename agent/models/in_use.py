"""The list of models in use, which control keeps for the commands that delete files of the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.files import replace_file

_NAME: Final = "models_in_use.json"


def write_in_use(state_dir: Path, uses: Mapping[str, str]) -> None:
    """Write the paths of model files in use, each with its use in words such as "active on line-1". Raises OSError."""
    replace_file(state_dir / _NAME, msgspec.json.encode(dict(uses)), sync=False)


def read_in_use(state_dir: Path) -> dict[str, str]:
    """Return the uses of model files by path; empty where none was written, or what is there cannot be read."""
    try:
        return msgspec.json.decode((state_dir / _NAME).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
