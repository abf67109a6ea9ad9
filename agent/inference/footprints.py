"""What models were measured to take, remembered over restarts."""

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

_LOG: Final = logging.getLogger(__name__)
_FILE: Final = "footprints.json"
_BYTES_A_FILE_BYTE: Final = 6  # resident bytes were 4.6 to 6.2 times the file's size: predict high
_LIMIT: Final = 512  # entries; the oldest measure goes first


class Footprints:
    """Measured bytes by artifact, backend, compute and input size. One thread at a time.

    The file is a cache: if it is broken or cannot be written, predictions are worse and nothing else is.
    """

    def __init__(self, folder: Path) -> None:
        self._path: Final = folder / _FILE
        self._bytes: dict[str, int] = {}

    def read(self) -> None:
        """Take up what earlier runs measured."""
        try:
            known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _LOG.warning("%s is not readable (%s); footprints are measured anew", self._path, error)
            return
        self._bytes = {key: size for key, size in known.items() if size > 0}

    def measured_bytes(self, key: str) -> int | None:
        """Return what was measured last, None where nothing was."""
        return self._bytes.get(key)

    def predicted_bytes(self, key: str, file_bytes: int) -> int:
        """Return what to charge before a load: what was measured last, else a high guess from the file's size."""
        return self._bytes.get(key) or file_bytes * _BYTES_A_FILE_BYTE

    def remember(self, key: str, measured_bytes: int) -> None:
        """Keep a measure, on disk too; the file is whole at every moment."""
        self._bytes.pop(key, None)
        self._bytes[key] = measured_bytes
        while len(self._bytes) > _LIMIT:
            del self._bytes[next(iter(self._bytes))]
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(self._bytes)))
            os.replace(draft, self._path)  # noqa: PTH105 - replaces atomically, and says so
        except OSError as error:
            _LOG.warning("cannot remember footprints in %s: %s", self._path, error)
