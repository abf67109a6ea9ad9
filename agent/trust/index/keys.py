"""Minisign's keys as keys of the index's metadata."""

import hashlib

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Key

from agent.trust.index.metadata import canonical
from agent.trust.minisign import PublicKey


def index_key(public: PublicKey) -> SSlibKey:
    """Return a key for metadata, named by the sha256 of its content, as TUF does by default."""
    words = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public.raw.hex()}}
    return SSlibKey(hashlib.sha256(canonical(words)).hexdigest(), "ed25519", "ed25519", {"public": public.raw.hex()})


def raw_key(key: Key) -> bytes:
    """Return the 32 bytes of a key of the metadata."""
    return bytes.fromhex(key.keyval["public"])
