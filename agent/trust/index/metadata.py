"""Parses the index's TUF metadata strictly: bounded, canonical, Ed25519 only, each key known once."""

import json
import re
from typing import Any, Final, TypeVar

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Delegations, Key, Metadata, Root, Snapshot, Targets, Timestamp

from agent.messages.errors import ModelError

MOST_BYTES: Final = {"root": 256 << 10, "timestamp": 16 << 10, "snapshot": 256 << 10, "targets": 4 << 20}
"""Largest accepted file of each type of metadata."""
MOST_ROOTS: Final = 256
"""Most rotations of the root that one device follows."""
MOST_ROLES: Final = 64
_MOST_DEPTH: Final = 16
_ROLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOP: Final = frozenset({"root", "timestamp", "snapshot", "targets"})
_HEX: Final = {32: re.compile("[0-9a-f]{64}"), 64: re.compile("[0-9a-f]{128}")}
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')

_S = TypeVar("_S", Root, Snapshot, Targets, Timestamp)
_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, RepositoryError, RecursionError, FormatError)


def canonical(document: object) -> bytes:
    """Return the one accepted encoding of a JSON document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse_json(raw: bytes, most_bytes: int, name: str) -> dict[str, Any]:
    """Parse a JSON object that is in its canonical encoding, of bounded size and depth. Raises ModelError.

    Duplicate keys, other spellings and trailing bytes are refused, because they would encode differently again.
    """
    if len(raw) > most_bytes:
        raise refused(name, f"it has more than {most_bytes} bytes")
    if _depth(raw) > _MOST_DEPTH:
        raise refused(name, f"it is nested more than {_MOST_DEPTH} deep")
    try:
        document = json.loads(raw)
        is_canonical = canonical(document) == raw
    except (ValueError, RecursionError):
        raise refused(name, "it is no JSON") from None
    if not isinstance(document, dict) or not is_canonical:
        raise refused(name, "it is not in the encoding that `changeover index` writes")
    return document


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for byte in _STRING.sub(b"", raw):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def refused(name: str, detail: str) -> ModelError:
    """Return the error of a file of the index that is not signed as it must be."""
    return ModelError("unsigned", f"the index's {name}: {detail}")


def parse_root(raw: bytes, name: str = "root.json") -> Metadata[Root]:
    """Parse a root. Raises ModelError; verifies no signature."""
    found: Metadata[Root] = _parse(raw, "root", name, Root)
    _require_keys(found.signed.keys, name)
    for role in found.signed.roles.values():
        _require_reachable(role.keyids, role.threshold, name)
    return found


def parse_timestamp(raw: bytes) -> Metadata[Timestamp]:
    """Parse a timestamp. Raises ModelError; verifies no signature."""
    found: Metadata[Timestamp] = _parse(raw, "timestamp", "timestamp.json", Timestamp)
    return found


def parse_snapshot(raw: bytes, name: str) -> Metadata[Snapshot]:
    """Parse a snapshot. Raises ModelError; verifies no signature."""
    found: Metadata[Snapshot] = _parse(raw, "snapshot", name, Snapshot)
    if len(found.signed.meta) > MOST_ROLES:
        raise refused(name, f"it names more than {MOST_ROLES} files")
    for file in found.signed.meta:
        if not file.endswith(".json") or not is_role(file.removesuffix(".json")):
            raise refused(name, f"it names {file!r}, which is no file of an index")
    return found


def parse_targets(raw: bytes, name: str) -> Metadata[Targets]:
    """Parse a list of models. Raises ModelError; verifies no signature."""
    found: Metadata[Targets] = _parse(raw, "targets", name, Targets)
    delegations = found.signed.delegations
    if delegations is not None:
        _require_delegations(delegations, name)
    return found


def is_role(name: str) -> bool:
    """Return True for a role's name, which is also part of a file's name."""
    return _ROLE.fullmatch(name) is not None


def _require_delegations(delegations: Delegations, name: str) -> None:
    if delegations.roles is None:
        raise refused(name, "it delegates by hashes, expected name patterns")
    _require_keys(delegations.keys, name)
    for role in delegations.roles.values():
        if role.name in _TOP or not is_role(role.name) or not role.paths:
            raise refused(name, f"it delegates to {role.name!r}, expected a name and its patterns")
        _require_reachable(role.keyids, role.threshold, name)


def _parse(raw: bytes, kind: str, name: str, cls: type[_S]) -> Metadata[_S]:
    document = parse_json(raw, MOST_BYTES[kind], name)
    _require_signatures(document, name)
    try:
        words = encode_canonical(document["signed"])
        found = Metadata[_S].from_dict(document)
        is_same = found.signed_bytes == str(words).encode()  # else two spellings, as of a date, have one signature
    except _UNREADABLE as error:
        raise refused(name, f"it is no {kind} of an index ({type(error).__name__})") from None
    if not isinstance(found.signed, cls) or not is_same:
        raise refused(name, f"it is no {kind} as `changeover index` writes it")
    return found


def _require_signatures(document: dict[str, Any], name: str) -> None:
    """Refuse what could differ in a file without a difference in what it says."""
    signatures = document.get("signatures")
    if set(document) != {"signed", "signatures"} or not isinstance(signatures, list):
        raise refused(name, "it is no signed file of an index")
    for one in signatures:
        is_formed = isinstance(one, dict) and set(one) == {"keyid", "sig"}
        if not is_formed or not all(isinstance(value, str) for value in one.values()):
            raise refused(name, "one of its signatures is malformed")
        if not _HEX[64].fullmatch(one["sig"]):
            raise refused(name, "one of its signatures is no Ed25519 signature")


def _require_keys(keys: dict[str, Key], name: str) -> None:
    """Refuse keys other than Ed25519, and one key under two ids, which would count twice toward a threshold."""
    seen = set()
    for key in keys.values():
        public = key.keyval.get("public")
        if (key.keytype, key.scheme) != ("ed25519", "ed25519") or not isinstance(public, str):
            raise refused(name, f"it has a key of type {key.keytype!r}, expected ed25519")
        if not _HEX[32].fullmatch(public) or public in seen:
            raise refused(name, "it has a malformed key, or the same key under two names")
        seen.add(public)


def _require_reachable(keyids: list[str], threshold: int, name: str) -> None:
    if not 1 <= threshold <= len(keyids):
        raise refused(name, f"a role wants {threshold} signatures of {len(keyids)} keys")
