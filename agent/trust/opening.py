"""Opens a verifier when it is first needed, so that nothing is imported where nothing is configured."""

from typing import TYPE_CHECKING

from agent.messages.children import TrustSetup
from agent.messages.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.trust.verifier import Verifier


def opener(setup: TrustSetup | None) -> "Callable[[], Verifier] | None":
    """Return a function that opens the verifier of `setup`; None where nothing is configured.

    The function raises ModelError ("unsigned") where the libraries that verify signatures are not installed.
    """
    return None if setup is None else lambda: open_verifier(setup)


def open_verifier(setup: TrustSetup, *, require_fresh: bool = False) -> "Verifier":
    """Return the verifier of `setup`. Raises ModelError ("unsigned") where its libraries are not installed."""
    try:
        from agent.trust.verifier import Verifier  # noqa: PLC0415 - its libraries take 20 MB
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in {"cryptography", "tuf", "securesystemslib"}:
            raise
        detail = "signatures cannot be verified, and nothing is loaded unverified: pip install 'changeover[supply]'"
        raise ModelError("unsigned", detail) from None
    return Verifier(setup.trusted_keys, setup.root, setup.state_dir, require_fresh=require_fresh)
