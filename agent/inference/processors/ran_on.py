"""Remembers the processor that each model ran on last, for lists that are made without a worker."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from agent.files import replace_file
from agent.messages.payloads import ModelProcessor
from agent.processes.private_files import make_private

_LOG: Final = logging.getLogger(__name__)
_FILE: Final = "processors.json"
_LIMIT: Final = 512  # models; the one that changed longest ago is dropped first


class RanOn:
    """File in the cache folder that records, by reference, the processor of each model's last load.

    Threading: one thread at a time, of several processes.
    """

    def __init__(self, folder: Path) -> None:
        self._path: Final = folder / _FILE

    def read(self) -> dict[str, ModelProcessor]:
        """Return the processor of each model that was loaded on this device; empty without a readable file."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, ModelProcessor])
        except (OSError, msgspec.DecodeError):
            return {}

    def note(self, reference: str, processor: ModelProcessor) -> None:
        """Store the processor that a model runs on, atomically; a failure to write is only logged."""
        known = self.read()
        if known.pop(reference, None) == processor:
            return
        known[reference] = processor
        for left in list(known)[:-_LIMIT]:
            del known[left]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, msgspec.json.format(msgspec.json.encode(known)), sync=False, is_shared=True)
            make_private(self._path)  # because the service must be able to read a file that root wrote
        except OSError as error:
            _LOG.warning("event=processors_not_written file=%s error=%r", self._path, error)
