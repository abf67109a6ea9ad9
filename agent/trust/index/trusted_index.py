"""Verifies an index from the configured root on, and refuses one older than what the device has seen."""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from agent.messages.errors import ModelError
from agent.trust.index import metadata
from agent.trust.index.contents import Contents, read_contents
from agent.trust.index.kept_index import KeptIndex, Seen

Read = Callable[[str, int], bytes | None]
"""Reads a file of an index by its name, at most one byte more than that limit; None where there is none."""

_OF_ROOT: Final = ("timestamp", "snapshot", "targets")


@dataclass(frozen=True)
class VerifiedIndex:
    """An index whose signatures all hold."""

    kept: KeptIndex
    contents: Contents
    expires: dt.datetime
    issued: str
    """Time of its signature as its publisher says; empty: not told."""


@dataclass
class _Walk:
    """State of one verification."""

    seen: dict[str, Seen]
    files: dict[str, bytes] = field(default_factory=dict)
    expires: list[dt.datetime] = field(default_factory=list)


def verify_index(anchor: bytes, kept: KeptIndex, read: Read) -> VerifiedIndex:
    """Verify the index that `read` serves against the configured root and what the device has seen.

    Its time is not looked at, because a device may be off for a year, or have no clock.

    Raises ModelError: "unsigned" for anything that is not signed as the root demands, "stale" for an older index,
    "hash_mismatch" for other bytes than were signed or seen, "file_missing" for an incomplete one.
    """
    anchor_sha256 = hashlib.sha256(anchor).hexdigest()
    if kept.anchor_sha256 != anchor_sha256:
        kept = KeptIndex()  # because the root was replaced by hand, which begins a new chain
    walk = _Walk(dict(kept.seen))
    root = _newest_root(anchor, kept, read, walk)
    timestamp = _timestamp(root, read, walk)
    snapshot = _snapshot(root, timestamp, read, walk)
    targets = _targets("targets", root, snapshot, read, walk)
    delegated = {}
    roles = targets.delegations.roles if targets.delegations is not None else None
    for name in roles or {}:
        if f"{name}.json" in snapshot.meta:  # else its owner has published nothing yet
            delegated[name] = _targets(name, targets, snapshot, read, walk)
    contents = read_contents(targets, delegated)
    issued = str(timestamp.unrecognized_fields.get("issued", ""))
    return VerifiedIndex(KeptIndex(anchor_sha256, walk.files, walk.seen), contents, min(walk.expires), issued)


def verify_kept(anchor: bytes, kept: KeptIndex) -> VerifiedIndex:
    """Verify a kept index again, from the configured root on. Raises ModelError as `verify_index` does."""
    if kept.anchor_sha256 != hashlib.sha256(anchor).hexdigest():
        raise ModelError("unsigned", "no index of the configured root was fetched or imported yet")
    return verify_index(anchor, kept, lambda name, _most_bytes: kept.files.get(name))


def _newest_root(anchor: bytes, kept: KeptIndex, read: Read, walk: _Walk) -> Root:
    """Follow the rotations of the root, each signed by the one before it and by itself."""
    found = metadata.parse_root(anchor)
    _require_root(found, None, "root.json")
    for _ in range(metadata.MOST_ROOTS):
        version = found.signed.version + 1
        name = f"{version}.root.json"
        raw = kept.files.get(name) or read(name, metadata.MOST_BYTES["root"])
        if raw is None:
            walk.expires.append(found.signed.expires)
            return found.signed
        newer = metadata.parse_root(raw, name)
        if newer.signed.version != version:
            raise metadata.refused(name, f"it says version {newer.signed.version}")
        _require_root(newer, found.signed, name)
        if name not in kept.files:
            _forget_rotated(found.signed, newer.signed, walk)
        walk.files[name] = raw
        found = newer
    raise metadata.refused("root", f"it was rotated more than {metadata.MOST_ROOTS} times: configure a newer root.json")


def _require_root(root: Metadata[Root], previous: Root | None, name: str) -> None:
    try:
        is_signed = root.signed.get_root_verification_result(previous, root.signed_bytes, root.signatures).verified
    except ValueError as error:
        raise metadata.refused(name, str(error)) from None
    if not is_signed:
        raise metadata.refused(name, "too few of the root's keys have signed it")


def _forget_rotated(old: Root, new: Root, walk: _Walk) -> None:
    """Forget the versions of a role that lost a key, because whoever held that may have signed the highest one."""
    for role in _OF_ROOT:
        if set(old.roles[role].keyids) - set(new.roles[role].keyids):
            walk.seen.pop(role, None)


def _timestamp(root: Root, read: Read, walk: _Walk) -> Timestamp:
    raw = read("timestamp.json", metadata.MOST_BYTES["timestamp"])
    if raw is None:
        raise ModelError("file_missing", "there is no timestamp.json: it is no index, or none that was published")
    found = metadata.parse_timestamp(raw)
    _require_signed(root, "timestamp", found, "timestamp.json")
    _note(walk, "timestamp", found.signed, raw)
    walk.files["timestamp.json"] = raw
    return found.signed


def _snapshot(root: Root, timestamp: Timestamp, read: Read, walk: _Walk) -> Snapshot:
    name = f"{timestamp.snapshot_meta.version}.snapshot.json"
    raw = _pinned(name, timestamp.snapshot_meta, "snapshot", read)
    found = metadata.parse_snapshot(raw, name)
    _require_signed(root, "snapshot", found, name)
    _require_version(found.signed, timestamp.snapshot_meta, name)
    _note(walk, "snapshot", found.signed, raw)
    walk.files[name] = raw
    return found.signed


def _targets(role: str, by: Root | Targets, snapshot: Snapshot, read: Read, walk: _Walk) -> Targets:
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise metadata.refused("snapshot", f"it names no {role}.json")
    name = f"{meta.version}.{role}.json"
    raw = _pinned(name, meta, "targets", read)
    found = metadata.parse_targets(raw, name)
    _require_signed(by, role, found, name)
    _require_version(found.signed, meta, name)
    if role != "targets" and found.signed.delegations is not None:
        raise metadata.refused(name, "a delegate may not delegate further")
    _note(walk, role, found.signed, raw)
    walk.files[name] = raw
    return found.signed


def _pinned(name: str, meta: MetaFile, kind: str, read: Read) -> bytes:
    """Read a file whose length and sha256 are signed. Raises ModelError where they differ."""
    if meta.length is None or "sha256" not in (meta.hashes or {}):
        raise metadata.refused(name, "neither its length nor its sha256 is signed")
    raw = read(name, min(meta.length, metadata.MOST_BYTES[kind]))
    if raw is None:
        raise ModelError("file_missing", f"the index has no {name}: it is incomplete, publish or copy it again")
    try:
        meta.verify_length_and_hashes(raw)
    except (RepositoryError, ValueError):
        detail = f"the index's {name} is not the one that was signed: copy the index again, complete"
        raise ModelError("hash_mismatch", detail) from None
    return raw


def _require_signed(by: Root | Targets, role: str, found: Metadata[Any], name: str) -> None:
    try:
        by.verify_delegate(role, found.signed_bytes, found.signatures)
    except (RepositoryError, ValueError):
        raise metadata.refused(name, "too few of the keys that the root names have signed it") from None


def _require_version(signed: Signed, meta: MetaFile, name: str) -> None:
    if signed.version != meta.version:
        raise metadata.refused(name, f"it says version {signed.version}")


def _note(walk: _Walk, role: str, signed: Signed, raw: bytes) -> None:
    """Compare a file with the newest seen of its role, and remember it. Raises ModelError."""
    found = Seen(signed.version, hashlib.sha256(raw).hexdigest())
    before = walk.seen.get(role)
    if before is not None and found.version < before.version:
        detail = f"the index is an older one: its {role} has version {found.version}, {before.version} was seen"
        raise ModelError("stale", detail)
    if before is not None and found.version == before.version and found.sha256 != before.sha256:
        detail = f"the index has another {role} under version {found.version}, which was seen before"
        raise ModelError("hash_mismatch", detail)
    walk.seen[role] = found
    walk.expires.append(signed.expires)
