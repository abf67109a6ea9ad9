"""Processors and keypoints of the resident models, for `meta`, `health` and `cache`, and the alerts that follow."""

from collections import Counter
from typing import TYPE_CHECKING, Final

from agent.messages.children import CacheState, ModelRuns
from agent.messages.events import Noticed
from agent.processes.package_version import fault_of_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.messages.payloads import ModelProcessor

_NOT_LOADED: Final = ("loading", "releasing")


class ModelProcessors:
    """Processor and keypoints of each resident model; for control's loop alone."""

    def __init__(self) -> None:
        self._told: dict[str, ModelProcessor] = {}
        self._keypoints: dict[str, list[str]] = {}
        self.resident: Mapping[str, ModelProcessor] = {}
        """Processor of each loaded model, by the model's reference."""

    def take(self, message: ModelRuns | CacheState) -> None:
        """Record what is told of a loaded model, or which models are loaded now."""
        if isinstance(message, ModelRuns):
            self._told[message.model] = message.processor
            if message.reading.keypoints:
                self._keypoints[message.model] = list(message.reading.keypoints)
            return
        resident = [one.model for one in message.models if one.state not in _NOT_LOADED]
        self.resident = {model: self._told[model] for model in resident if model in self._told}
        named = {one.model for one in message.models}
        self._told = {model: one for model, one in self._told.items() if model in named}
        self._keypoints = {model: names for model, names in self._keypoints.items() if model in named}

    def keypoints(self) -> dict[str, list[str]]:
        """Return the names of each resident pose model's keypoints."""
        return {model: names for model, names in self._keypoints.items() if model in self.resident}

    def worker_lost(self) -> None:
        """Forget all models, because they are gone with the worker."""
        self._told, self._keypoints, self.resident = {}, {}, {}

    def runtime(self) -> str | None:
        """Return the runtime that serves most of the resident models; None without one."""
        served = Counter(one.runtime for one in self.resident.values())
        return max(sorted(served), key=served.__getitem__, default=None)

    def notices(self) -> list[Noticed]:
        """Return the state of two alerts: models do not use the GPU, and the runtime's release stops lines."""
        unused: dict[str, list[str]] = {}
        for model, one in self.resident.items():
            if one.missing:
                unused.setdefault(f"{one.processor}: {one.missing}", []).append(model)
        served_by = {one.version for one in self.resident.values() if one.runtime == "onnxruntime"}
        old = [fault for version in sorted(served_by) if (fault := fault_of_onnxruntime(version)) is not None]
        detail = "; ".join(f"{', '.join(models)} on {fault}" for fault, models in unused.items())
        return [
            Noticed("gpu_unused", on=bool(unused), detail=detail or None),
            Noticed("old_runtime", on=bool(old), detail="; ".join(old) or None),
        ]
