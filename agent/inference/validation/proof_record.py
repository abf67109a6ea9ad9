"""Records beside an artifact that its model passed its checks, so that loads need not repeat them."""

import hashlib
import logging
from pathlib import Path
from typing import Final

import msgspec

from agent import __version__
from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import artifact_key, backend_of, target_of
from agent.inference.processors.compute import split
from agent.inference.validation.golden import golden_files
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)


class ProofRecord:
    """Records of passed checks, one for each artifact of this device. Threading: any thread."""

    def __init__(self, cache_dir: Path, compute: str) -> None:
        self._artifacts: Final = ArtifactStore(cache_dir)
        self._compute: Final = compute

    def subject(self, version: ModelVersion) -> str:
        """Return a hash of everything that the checks of `version` depend on; empty where none can be remembered.

        These are the artifact's bytes, precision and decoder, the catalog's entry of the version, the golden pictures
        with their expected objects, and the release of this program. Runtime and device are in the artifact's key; not
        in that of a graph that ONNX Runtime compiles for a GPU at each load.
        """
        key = artifact_key(version, self._compute)
        artifact = self._artifacts.find(key)
        if key is None or artifact is None or self._is_compiled_at_each_load(version):
            return ""
        profile = Profile(artifact.profile.precision)
        record = msgspec.structs.replace(artifact, source="", profile=profile, proof="", verified=())
        said = msgspec.structs.replace(version, path="", golden=None)
        hashed = hashlib.sha256(msgspec.json.encode((__version__, key, record, said)))
        try:
            for file in golden_files(version):
                content = file.read_bytes()
                hashed.update(f"{file.name}\0{len(content)}\0".encode())
                hashed.update(content)
        except (OSError, ModelError):
            return ""  # because the proof itself says what is wrong with them
        return hashed.hexdigest()

    def holds(self, version: ModelVersion, subject: str) -> bool:
        """Return True where the checks passed for `subject`, which `subject()` returned before the load.

        A new artifact that replaced the loaded one meanwhile has no such record, so it answers False.
        """
        artifact = self._artifacts.find(artifact_key(version, self._compute))
        return subject != "" and artifact is not None and artifact.proof == subject

    def remember(self, version: ModelVersion, subject: str) -> None:
        """Record that the checks passed for `subject`, unless something that they depend on has changed meanwhile."""
        key = artifact_key(version, self._compute)
        if key is None or not subject or self.subject(version) != subject:
            return
        try:
            self._artifacts.proven(key, subject)
        except OSError as error:  # because only the next load takes longer
            _LOG.info("event=proof_not_recorded model=%s detail=%r", version.reference, str(error))

    def _is_compiled_at_each_load(self, version: ModelVersion) -> bool:
        backend = backend_of(version, self._compute, is_prepared=True)
        return split(target_of(version, backend, self._compute))[0] == "cuda"
