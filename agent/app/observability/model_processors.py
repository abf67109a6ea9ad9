"""Processors and keypoints of the resident models, for `meta`, `health` and `cache`, and the alerts that follow."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.messages.children import CacheState, ModelRuns
from agent.messages.events import Noticed
from agent.processes.package_version import fault_of_onnxruntime
from agent.settings import DEFAULT_GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.messages.payloads import ModelProcessor

_NOT_LOADED: Final = ("loading", "releasing")


@dataclass
class _OfGroup:
    """The models of one group, by reference, as its worker reported them."""

    told: "dict[str, ModelProcessor]" = field(default_factory=dict)
    keypoints: dict[str, list[str]] = field(default_factory=dict)
    resident: "dict[str, ModelProcessor]" = field(default_factory=dict)


class ModelProcessors:
    """Processor and keypoints of each resident model; for control's loop alone."""

    def __init__(self) -> None:
        self._groups: Final[dict[str, _OfGroup]] = {}
        self.resident: Mapping[str, ModelProcessor] = {}
        """Processor of each loaded model, by the model's reference."""

    def take(self, message: ModelRuns | CacheState, group: str = DEFAULT_GROUP) -> None:
        """Record what is told of a loaded model, or which models are loaded now, in a group's worker."""
        own = self._groups.setdefault(group, _OfGroup())
        if isinstance(message, ModelRuns):
            own.told[message.model] = message.processor
            if message.reading.keypoints:
                own.keypoints[message.model] = list(message.reading.keypoints)
            return
        resident = [one.model for one in message.models if one.state not in _NOT_LOADED]
        own.resident = {model: own.told[model] for model in resident if model in own.told}
        named = {one.model for one in message.models}
        own.told = {model: one for model, one in own.told.items() if model in named}
        own.keypoints = {model: names for model, names in own.keypoints.items() if model in named}
        self._sum()

    def keypoints(self) -> dict[str, list[str]]:
        """Return the names of each resident pose model's keypoints."""
        return {
            model: names
            for own in self._groups.values()
            for model, names in own.keypoints.items()
            if model in own.resident
        }

    def worker_lost(self, group: str = DEFAULT_GROUP) -> None:
        """Forget the models of a group, because they are gone with its worker."""
        self._groups.pop(group, None)
        self._sum()

    def all_lost(self) -> None:
        """Forget the models of all groups."""
        self._groups.clear()
        self._sum()

    def _sum(self) -> None:
        self.resident = {model: one for own in self._groups.values() for model, one in own.resident.items()}

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
