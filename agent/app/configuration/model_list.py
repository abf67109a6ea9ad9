"""Rows of `models list`: what is known of each version of the catalog without loading it."""

from collections.abc import Iterator
from pathlib import Path

from agent.inference.artifacts.artifact_store import Artifact, ArtifactStore
from agent.inference.backends.choice import artifact_key
from agent.inference.memory.footprints import Footprints
from agent.inference.processors.ran_on import RanOn
from agent.inference.yolo.declared import declared_reading, prepared_reading
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.catalog import Catalog
from agent.settings import Settings
from agent.trust.words import TrustReader


def rows(settings: Settings) -> Iterator[str]:
    """Yield a row for each version: reference, size, file, task and layout, artifact, GPU memory, processor, trust."""
    artifacts = ArtifactStore(settings.device.cache_dir)
    ran_on = RanOn(settings.device.cache_dir).read()
    footprints = Footprints(settings.device.cache_dir)
    footprints.read()
    trust = TrustReader(settings)
    for version in Catalog.load(settings.catalog.file, settings.catalog.store_dir).versions:
        path = Path(version.path)
        size = f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "missing"
        artifact = artifacts.recorded(artifact_key(version, settings.device.compute))  # root's list of the service's
        prepared = f"\tprepared: {artifact.profile}" if artifact else ""
        taken = footprints.newest(version.sha256, settings.device.compute)
        takes = f"\ttakes: {taken.amount}" if taken and taken.device_bytes else ""
        processor = ran_on.get(version.reference)
        runs = f"\tran on: {processor}" if processor else "\tnot loaded here yet"
        told = f"{_reading(version, artifact)}{prepared}{takes}{runs}{trust.column(version)}"
        yield f"{version.reference}\t{size}\t{version.path}\t{told}"


def _reading(version: ModelVersion, artifact: Artifact | None) -> str:
    """Return task and layout, by the artifact's record, else by the file; else what the catalog says of them."""
    try:
        if artifact is not None:
            return str(prepared_reading(version, artifact.facts, artifact.shapes, artifact.imgsz))
        found = declared_reading(version)
    except ModelError as error:
        return error.reason
    if found is not None:
        return str(found)
    return f"{version.task or 'task not known yet'}{f' ({version.layout})' if version.layout else ''}"
