"""Keeps the list of the models in memory, so that nothing that deletes files of the store takes one away."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.messages.children import ResidentModel
from agent.messages.references import ModelVersion
from agent.models.in_use import write_in_use

_log: Final = logging.getLogger(__name__)


class ModelUses:
    """Writer of the list, for control's loop; not synced, because a loss of power ends every use."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir: Final = state_dir
        self._paths: Final[dict[str, set[str]]] = {}
        """Files of each model in memory, by reference; one stays known when the catalog forgets it."""
        self._written: dict[str, str] | None = None

    def note(self, models: Iterable[ResidentModel], versions: Iterable[ModelVersion]) -> None:
        """Write the list where it has changed; `versions` are those of the catalog."""
        resident = {model.model: model for model in models}
        for gone in self._paths.keys() - resident.keys():
            del self._paths[gone]
        for version in versions:
            if version.reference in resident:
                self._paths.setdefault(version.reference, set()).add(version.path)
        uses = {path: _use(resident[name]) for name, paths in self._paths.items() for path in sorted(paths)}
        if uses == self._written:
            return
        try:
            write_in_use(self._state_dir, uses)
        except OSError as error:
            _log.warning("event=model_uses_unwritten detail=%r", str(error))
            return
        self._written = uses


def _use(model: ResidentModel) -> str:
    if model.reserved_for:
        return f"{model.model} is in memory, reserved for {model.reserved_for}"
    return f"{model.model} is in memory ({model.state})"
