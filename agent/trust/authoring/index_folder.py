"""Reads and writes the metadata of an index's folder, with the signatures of the keys at hand."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from securesystemslib.signer import Signature
from tuf.api.metadata import Key, Metadata, Root, Targets

from agent.files import open_regular, replace_file
from agent.messages.errors import MistakeError, denied
from agent.trust.authoring.key_folder import KeyFolder
from agent.trust.index import metadata
from agent.trust.index.keys import raw_key

PENDING: Final = "pending"
"""Folder of files that need signatures of keys on other machines; it is not served."""
_KEPT_VERSIONS: Final = 2
_S = TypeVar("_S", Root, Targets)


@dataclass(frozen=True)
class Written:
    """Path of a written file, and the number of signatures that it still needs."""

    path: Path
    missing: int

    def __str__(self) -> str:
        if not self.missing:
            return f"wrote {self.path}"
        more = "signature" if self.missing == 1 else "signatures"
        return (
            f"{self.path} needs {self.missing} more {more}: run `changeover index sign {self.path.parent.parent} "
            "--keys KEYS` where another of its keys is"
        )


class IndexFolder:
    """The folder of an index. One command changes it at a time."""

    def __init__(self, folder: Path, keys: KeyFolder) -> None:
        self.path: Final = folder
        self._keys: Final = keys

    def root(self) -> Metadata[Root]:
        """Return the newest root, also one that still needs signatures. Raises MistakeError."""
        return metadata.parse_root(*self._newest("root"))

    def targets(self, role: str = "targets") -> Metadata[Targets]:
        """Return the newest list of models of a role. Raises MistakeError where there is none."""
        return metadata.parse_targets(*self._newest(role))

    def published(self) -> tuple[int, int]:
        """Return the versions of snapshot and timestamp; 0 before the first publication."""
        snapshots = self._versions("snapshot", self.path)
        try:
            timestamp = metadata.parse_timestamp(self._read(self.path / "timestamp.json")).signed.version
        except FileNotFoundError:
            timestamp = 0
        return max(snapshots, default=0), timestamp

    def has(self, role: str) -> bool:
        """Return True where the role has a file, also one that still needs signatures."""
        return bool(self._versions(role, self.path) or self._versions(role, self.path / PENDING))

    def signed_file(self, role: str) -> tuple[int, bytes] | None:
        """Return version and content of a role's newest file with all of its signatures; None without one."""
        versions = self._versions(role, self.path)
        if not versions:
            return None
        return max(versions), self._read(self.path / f"{max(versions)}.{role}.json")

    def write_root(self, root: Metadata[Root]) -> Written:
        """Sign and write a root, which the root before it must sign too."""
        versions = self._versions("root", self.path)
        previous = None
        if versions:
            newest = self._read(self.path / f"{max(versions)}.root.json")
            previous = metadata.parse_root(newest).signed
        keys = _keys_of(root.signed, "root") + (_keys_of(previous, "root") if previous is not None else [])
        self._sign(root, keys)
        result = root.signed.get_root_verification_result(previous, root.signed_bytes, root.signatures)
        missing = max(result.first.missing, result.second.missing)
        return self._write(root, f"{root.signed.version}.root.json", missing)

    def write(self, found: Metadata[Any], role: str) -> Written:
        """Sign and write a role's file."""
        by = self._delegator(role)
        self._sign(found, _keys_of(by, role))
        missing = by.get_verification_result(role, found.signed_bytes, found.signatures).missing
        name = "timestamp.json" if role == "timestamp" else f"{found.signed.version}.{role}.json"
        return self._write(found, name, missing)

    def sign_pending(self) -> list[Written]:
        """Add the signatures of the keys at hand to every file that needs some."""
        done = []
        for path in sorted(
            (self.path / PENDING).glob("*.json"), key=lambda path: (".root." not in path.name, path.name)
        ):
            role = path.name.split(".", 1)[1].removesuffix(".json")
            if role == "root":
                done.append(self.write_root(metadata.parse_root(self._read(path), path.name)))
            else:
                done.append(self.write(metadata.parse_targets(self._read(path), path.name), role))
        return done

    def tidy(self) -> None:
        """Remove all but the newest two versions of each role's file; roots stay, since devices follow them."""
        for role in {path.name.split(".", 1)[1].removesuffix(".json") for path in self.path.glob("[0-9]*.*.json")}:
            if role != "root":
                for version in sorted(self._versions(role, self.path))[:-_KEPT_VERSIONS]:
                    (self.path / f"{version}.{role}.json").unlink(missing_ok=True)

    def _delegator(self, role: str) -> Root | Targets:
        return self.root().signed if role in {"targets", "snapshot", "timestamp"} else self.targets().signed

    def _sign(self, found: Metadata[Any], keys: Iterable[Key]) -> None:
        payload = found.signed_bytes
        for key in keys:
            secret = self._keys.secret(raw_key(key))
            if secret is not None:
                found.signatures[key.keyid] = Signature(key.keyid, secret.sign_bytes(payload).hex())

    def _write(self, found: Metadata[Any], name: str, missing: int) -> Written:
        pending = self.path / PENDING / name
        path = pending if missing else self.path / name
        if missing and not found.signatures:
            raise MistakeError(f"none of the keys that may sign {name} is in the key folder: --keys names it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, metadata.canonical(found.to_dict()), sync=True, mode=0o644)
            if not missing:
                pending.unlink(missing_ok=True)
        except OSError as error:
            raise MistakeError(f"{error.filename or path}: {(error.strerror or str(error)).lower()}") from None
        return Written(path, missing)

    def _newest(self, role: str) -> tuple[bytes, str]:
        """Return content and name of a role's newest file, also of one that still needs signatures."""
        found = [
            (version, folder) for folder in (self.path, self.path / PENDING) for version in self._versions(role, folder)
        ]
        if not found:
            raise MistakeError(f"{self.path} has no {role}: is it an index? `changeover index init` makes one")
        version, folder = max(found, key=lambda one: one[0])
        name = f"{version}.{role}.json"
        return self._read(folder / name), name

    @staticmethod
    def _versions(role: str, folder: Path) -> list[int]:
        form = re.compile(rf"([0-9]{{1,9}})\.{re.escape(role)}\.json")
        return [int(match[1]) for path in folder.glob("*.json") if (match := form.fullmatch(path.name))]

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            with open_regular(path) as file:
                return file.read(max(metadata.MOST_BYTES.values()) + 1)
        except FileNotFoundError:
            raise
        except PermissionError:
            raise MistakeError(denied(path)) from None
        except OSError as error:
            raise MistakeError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def next_version(found: Metadata[_S]) -> Metadata[_S]:
    """Return the metadata as its next version, without signatures."""
    found.signed.version += 1
    found.signatures.clear()
    return found


def _keys_of(by: Root | Targets, role: str) -> list[Key]:
    return [by.get_key(keyid) for keyid in by.get_delegated_role(role).keyids]
