"""The verifier that a device's keys or index call for."""

from collections.abc import Sequence
from pathlib import Path

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.messages.supply import SupplySetup
from agent.supply.fetching import Indexed, Read, Verifier


class _TrustsSha256:
    """Verifier of a device without keys or index: the sha256 of the catalog decides."""

    def accept_index(self, _read: Read) -> Sequence[Indexed]:
        raise ModelError("unsigned", "an index needs catalog.root, which says who may sign it")

    def require_listed(self, _version: ModelVersion) -> None:
        return

    def verify_file(self, _version: ModelVersion, _path: Path) -> None:
        return


def verifier_of(setup: SupplySetup) -> Verifier:
    """Return the verifier of this device."""
    return _TrustsSha256()
