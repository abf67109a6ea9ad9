"""The changes that whoever runs the plant's models makes to an index: begin, add, delegate, rotate, revoke, publish."""

import datetime as dt
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from agent.files import is_sha256, replace_file
from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelFile, ModelReference
from agent.models.keeping.copying import Release, copy_model, why_no_picture
from agent.trust.authoring.index_folder import IndexFolder, next_version
from agent.trust.authoring.key_folder import KeyFolder
from agent.trust.index.contents import FOLDER, KEYS, read_model
from agent.trust.index.keys import index_key, raw_key
from agent.trust.index.metadata import MOST_ROLES, is_role
from agent.trust.minisign import PublicKey

ROOT_DAYS: Final = 3650
DAYS: Final = 400
"""Days until a list of models or a publication should be renewed; a device tells of it and goes on."""
ROLES: Final = {"root": ("root",), "models": ("targets",), "publish": ("snapshot", "timestamp")}
"""Names of the keys' purposes, with the roles of the metadata that they sign."""
_FIRST_SENSIBLE_YEAR: Final = 2025
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*?\[\]-]{1,64}")


@dataclass(frozen=True)
class Details:
    """Keys of a model's entry in the catalog, as an index carries them, and its release."""

    release: Release
    entry: dict[str, Any]


def begin(folder: IndexFolder, keys: KeyFolder, password: Callable[[str], str | None], threshold: int = 1) -> list[str]:
    """Make the keys of a new index and its first root and list; return lines for the user.

    `threshold` is the number of root keys that must sign a root, of one more that are made. Raises MistakeError.
    """
    if folder.has("root"):
        raise MistakeError(f"{folder.path} is an index already")
    count = threshold + 1 if threshold > 1 else 1
    names = {"root": [f"root-{number}" for number in range(1, count + 1)], "models": ["models"], "publish": ["publish"]}
    made = {use: [keys.make(name, password(name)) for name in names[use]] for use in ROLES}
    root = Metadata(Root(expires=_expiry(ROOT_DAYS), consistent_snapshot=True))
    for use, roles in ROLES.items():
        for role in roles:
            for key in made[use]:
                root.signed.add_key(index_key(key), role)
    root.signed.roles["root"].threshold = threshold
    written = [folder.write_root(root), folder.write(Metadata(Targets(expires=_expiry(DAYS))), "targets")]
    first = folder.path / "root.json"
    replace_file(first, (folder.path / "1.root.json").read_bytes(), sync=True, mode=0o644)
    return [*map(str, written), f"wrote {first}: every device needs it once, as catalog.root"]


def add(folder: IndexFolder, source: Path, details: Details, role: str = "targets") -> list[str]:
    """Copy a model into the index and sign it into a list; return lines for the user. Raises MistakeError."""
    reference = details.release.reference
    if reference.variant is None or reference.version is None:
        raise MistakeError(f"found {reference}, expected a full reference NAME:VARIANT@VERSION")
    listed = next_version(folder.targets(role)) if folder.has(role) else Metadata(Targets(expires=_expiry(DAYS)))
    listed.signed.expires = _expiry(DAYS)
    _require_delegated(folder, role, reference)
    place = folder.path / FOLDER / reference.name / reference.variant / reference.version
    if any(
        path.startswith(f"{reference.name}/{reference.variant}/{reference.version}/") for path in listed.signed.targets
    ):
        raise MistakeError(f"{reference} is in the index already, and releases are immutable: give a new version")
    files = _bring(source, place, details.release)
    target = _target(reference, place, files, details.entry)
    listed.signed.targets[target.path] = target
    why = why_no_picture(place / files[0].name)
    told = [f"added {reference}\tsha256 {files[0].sha256}", *([f"only requests can use it: {why}"] if why else [])]
    return [*told, str(folder.write(listed, role)), _PUBLISH]


_PUBLISH: Final = "devices see it after `changeover index publish`"


def delegate(folder: IndexFolder, role: str, patterns: tuple[str, ...], publics: tuple[PublicKey, ...]) -> list[str]:
    """Let other keys sign the models whose names fit the patterns; return lines for the user. Raises MistakeError."""
    if role in {*ROLES, "targets", "snapshot", "timestamp"} or not is_role(role):
        raise MistakeError(f"found {role!r}, expected a name of letters, digits, dots and dashes, not an index's own")
    if not publics or not patterns or not all(_PATTERN.fullmatch(pattern) for pattern in patterns):
        raise MistakeError("expected at least one pattern of model names such as 'cap-*', and a public key's file")
    listed = next_version(folder.targets())
    delegations = listed.signed.delegations or Delegations({}, {})
    roles = delegations.roles if delegations.roles is not None else {}
    if len(roles) >= MOST_ROLES // 2:
        raise MistakeError(f"an index has at most {MOST_ROLES // 2} delegations")
    before = roles.pop(role, None)
    keys = {key.keyid: key for key in map(index_key, publics)}
    paths = [f"{pattern}/*/*/*" for pattern in patterns]
    roles[role] = DelegatedRole(role, sorted(keys), 1, terminating=False, paths=paths)
    used = {keyid for one in roles.values() for keyid in one.keyids}
    known = {keyid: key for keyid, key in {**delegations.keys, **keys}.items() if keyid in used}
    listed.signed.delegations = Delegations(known, roles)
    words = "changed" if before is not None else "delegated to"
    return [f"{words} {role}: {', '.join(patterns)}", str(folder.write(listed, "targets")), _PUBLISH]


def rotate(
    folder: IndexFolder, use: str, added: tuple[PublicKey, ...], removed: tuple[bytes, ...], threshold: int | None
) -> list[str]:
    """Add and remove keys of the root, the models or the publication; return lines for the user.

    `removed` are bare public keys. Raises MistakeError.
    """
    if use not in ROLES:
        raise MistakeError(f"found {use!r}, expected {', '.join(ROLES)}; `index delegate` changes a delegate's keys")
    root = next_version(folder.root())
    root.signed.expires = _expiry(ROOT_DAYS)
    for role in ROLES[use]:
        for key in added:
            root.signed.add_key(index_key(key), role)
        for keyid in list(root.signed.roles[role].keyids):
            if raw_key(root.signed.get_key(keyid)) in removed:
                root.signed.revoke_key(keyid, role)
        _set_threshold(root.signed.roles[role], threshold, use)
    lines = [str(folder.write_root(root))]
    if use == "models":
        lines.append(str(folder.write(next_version(folder.targets()), "targets")))
    return [*lines, _PUBLISH]


def current_keys(folder: IndexFolder, use: str) -> tuple[bytes, ...]:
    """Return the bare public keys of a purpose."""
    root = folder.root().signed
    return tuple(raw_key(root.get_key(keyid)) for keyid in root.roles[ROLES[use][0]].keyids)


def revoke(folder: IndexFolder, what: str) -> list[str]:
    """Revoke a version, by NAME[:VARIANT]@VERSION or by sha256; return lines for the user. Raises MistakeError."""
    listed = next_version(folder.targets())
    revoked = listed.signed.unrecognized_fields.setdefault("revoked", {"models": [], "sha256": []})
    reference = ModelReference.parse(what)
    if is_sha256(what.lower()):
        revoked["sha256"] = sorted({*revoked["sha256"], what.lower()})
    elif reference is not None and reference.version is not None:
        revoked["models"] = sorted({*revoked["models"], str(reference)})
    else:
        raise MistakeError(f"found {what!r}, expected NAME@VERSION, NAME:VARIANT@VERSION or the sha256 of a file")
    return [f"revoked {what}", str(folder.write(listed, "targets")), _PUBLISH]


def publish(folder: IndexFolder, days: int = DAYS) -> list[str]:
    """Sign which versions of all lists count from now on; return lines for the user. Raises MistakeError."""
    now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    if now.year < _FIRST_SENSIBLE_YEAR:
        raise MistakeError(f"this machine's clock says {now:%Y-%m-%d}: set it, since an index says when it was signed")
    top = folder.targets().signed
    delegations = top.delegations.roles if top.delegations is not None else None
    files = {role: folder.signed_file(role) for role in ("targets", *(delegations or {}))}
    if files["targets"] is None or files["targets"][0] != top.version:
        raise MistakeError("the list of models still needs signatures: `changeover index sign`")
    snapshot_version, timestamp_version = folder.published()
    meta = {f"{role}.json": _meta(*found) for role, found in files.items() if found is not None}
    snapshot = Metadata(Snapshot(snapshot_version + 1, expires=_expiry(days), meta=meta))
    lines = [folder.write(snapshot, "snapshot")]
    found = folder.signed_file("snapshot")
    if lines[0].missing or found is None:
        raise MistakeError(f"{lines[0]}: publish where all of them are")
    timestamp = Metadata(Timestamp(timestamp_version + 1, expires=_expiry(days), snapshot_meta=_meta(*found)))
    timestamp.signed.unrecognized_fields["issued"] = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    lines.append(folder.write(timestamp, "timestamp"))
    folder.tidy()
    return [*map(str, lines), f"published; it should be renewed before {timestamp.signed.expires:%Y-%m-%d}"]


def _set_threshold(role: Role, threshold: int | None, use: str) -> None:
    role.threshold = threshold or role.threshold
    if not role.keyids or role.threshold > len(role.keyids):
        raise MistakeError(f"{use} would have {len(role.keyids)} keys, of which {role.threshold} must sign: add one")


def _require_delegated(folder: IndexFolder, role: str, reference: ModelReference) -> None:
    if role == "targets":
        return
    delegations = folder.targets().signed.delegations
    found = (delegations.roles or {}).get(role) if delegations is not None else None
    path = f"{reference.name}/{reference.variant}/{reference.version}/x"
    if found is None or not found.is_delegated_path(path):
        raise MistakeError(f"{role} may not sign {reference.name}: `changeover index delegate` says what it may")


def _bring(source: Path, place: Path, release: Release) -> tuple[ModelFile, ...]:
    """Copy a model into its folder of the index, by one rename. Raises MistakeError."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
        try:
            files = copy_model(source, draft, release)
            draft.chmod(0o755)
            shutil.rmtree(place, ignore_errors=True)  # because an addition that was cut off was never signed
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except ModelError as error:
        raise MistakeError(str(error)) from None
    except OSError as error:
        raise MistakeError(f"{error.filename or place}: {(error.strerror or str(error)).lower()}") from None
    return files


def _target(reference: ModelReference, place: Path, files: tuple[ModelFile, ...], entry: dict[str, Any]) -> TargetFile:
    words = {key: value for key, value in entry.items() if key in KEYS}
    further = {file.name: {"sha256": file.sha256, "length": (place / file.name).stat().st_size} for file in files[1:]}
    path = f"{reference.name}/{reference.variant}/{reference.version}/{files[0].name}"
    custom = {"entry": json.dumps(words, sort_keys=True), "files": further}
    length = (place / files[0].name).stat().st_size
    target = TargetFile(length, {"sha256": files[0].sha256}, path, {"custom": custom})
    try:
        read_model(path, target)
    except (ValueError, KeyError, TypeError) as error:
        raise MistakeError(f"{reference}: {error}") from None
    return target


def _meta(version: int, content: bytes) -> MetaFile:
    return MetaFile.from_data(version, content, ["sha256"])


def _expiry(days: int) -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(days=days)
