"""The verifier that a device's keys or index call for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.messages.children import TrustSetup
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.messages.short_lived.supply import SupplySetup
from agent.supply.fetching import Indexed, Read, Verifier
from agent.trust.opening import open_verifier


class TrustsSha256:
    """Verifier of a device without keys or index: the sha256 of the catalog decides."""

    is_hashing: Final = False

    def accept_index(self, _read: Read) -> Sequence[Indexed]:
        """Refuse any index, because nothing says who may sign it."""
        raise ModelError("unsigned", "an index needs catalog.root, which says who may sign it")

    def require_listed(self, _version: ModelVersion) -> None:
        """Accept any version."""

    def verify_file(self, _version: ModelVersion, _path: Path) -> None:
        """Accept any file, whose sha256 was compared before."""


def verifier_of(setup: SupplySetup) -> Verifier:
    """Return the verifier of this device. Raises ModelError where it cannot verify what the settings demand."""
    if not setup.trusted_keys and not setup.root:
        return TrustsSha256()
    trust = TrustSetup(setup.trusted_keys, setup.root, setup.state_dir)
    return open_verifier(trust, require_fresh=setup.require_fresh)
