"""Warm-up before a measurement: every model prepared for this device, and its footprint known."""

import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent import isolated
from agent.bench.plant.bench_plant import Plant
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import artifact_key
from agent.messages.errors import EXIT_MISTAKE, TransientError
from agent.models.preparation import Preparation, Request

_ROOM: Final = 0.7  # of the device's available memory
_ROUNDS: Final = 2  # a first load in a process brings much of its runtime with it
_PREPARE_S: Final = 600.0
_FPS: Final = 2.0  # so that the largest keeps up
_SETTLE_S: Final = 1.0


def measure_footprints(plant: Plant, names: Iterable[str]) -> dict[str, int]:
    """Load each model in a generous budget, in two runs of the agent; return footprints from its `cache` topic.

    Runs the plant's first line only. The folder keeps artifacts and footprints for later runs.
    """
    home = replace(plant.stations[0], fps=_FPS)
    roomy = replace(plant, stations=(home,), budget=str(_ROOM))
    say("rehearsal: preparing models, learning footprints")
    prepare_models(roomy, names)
    footprints: dict[str, int] = {}
    for _ in range(_ROUNDS):
        with started(roomy) as device:
            for name in names:
                device.bring(home.line, name)
                footprints[name] = _charged(device, plant.models[name].reference)
            device.bring(home.line, home.default)
            device.during(_SETTLE_S)
    return footprints


def _charged(device: Device, reference: str) -> int:
    """Return the charged bytes of an active model."""

    def found() -> int:
        models = device.observer.cache.models if device.observer.cache is not None else []
        return sum(one.bytes for one in models if (one.model, one.state) == (reference, "active"))

    device.until(found, f"{reference} in the ledger")
    return found()


def prepare_models(plant: Plant, names: Iterable[str]) -> None:
    """Prepare a plant's models ahead: as an operator would, or in the precision that the measurement is for."""
    config, models = plant.write(port=1), [plant.models[name] for name in names]
    if not plant.models.precision:
        prepare(config, [one.reference for one in models])
        return
    for one in models:
        asked = Request(one.version, "auto", str(plant.cache_dir), precision=plant.models.precision)
        outcome = Preparation(asked, lambda _: None).run()
        if outcome.result == "failed":
            raise TransientError(f"{one.reference} could not be prepared: {outcome.detail}")


def precision_of(plant: Plant, name: str) -> str:
    """Return the precision of a prepared model; "f32" where the runtime serves the file itself."""
    return profile_of(plant, name).precision or "f32"


def profile_of(plant: Plant, name: str) -> Profile:
    """Return the options of a prepared model; the runtime's own where it serves the file itself."""
    artifact = ArtifactStore(plant.cache_dir).find(artifact_key(plant.models[name].version, "auto"))
    return artifact.profile if artifact is not None else Profile()


def precisions(plant: Plant, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return by model the precision of the agent, and of the reference manager, whose torch computes in float32."""
    return {name: {"agent": precision_of(plant, name), "reference": "f32"} for name in names}


def prepare(config: Path, references: Iterable[str]) -> None:
    """Prepare artifacts ahead, as an operator would."""
    for reference in references:
        command = isolated.command("agent", "models", "prepare", reference, "--config", config)
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PREPARE_S)
        if answer.returncode == EXIT_MISTAKE:
            say("nothing is prepared ahead: " + answer.stderr.strip().splitlines()[-1])
            return
        if answer.returncode:
            raise TransientError(f"{reference} could not be prepared: {answer.stderr[-500:]}")
