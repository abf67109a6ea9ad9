"""Whom the settings trust with models."""

from typing import TYPE_CHECKING

from agent.messages.children import TrustSetup
from agent.settings import Settings
from agent.trust.opening import open_verifier

if TYPE_CHECKING:
    from agent.trust.verifier import Verifier


def trust_of(settings: Settings) -> TrustSetup | None:
    """Return whom the settings trust with models; None where they trust anybody."""
    catalog = settings.catalog
    if not catalog.trusted_keys and catalog.root is None:
        return None
    return TrustSetup(catalog.trusted_keys, str(catalog.root or ""), str(settings.device.state_dir.absolute()))


def verifier_of(settings: Settings) -> "Verifier | None":
    """Return the verifier of the settings; None where any model may be loaded. Raises what `open_verifier` raises."""
    setup = trust_of(settings)
    return None if setup is None else open_verifier(setup, require_fresh=settings.catalog.require_fresh)
