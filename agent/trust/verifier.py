"""Verifies models against the configured keys or the signed index: when fetched, imported, and at each load."""

import datetime as dt
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from agent.files import ByteSink, open_regular, stream_sha256
from agent.messages.errors import ChangeoverError, ModelError, denied
from agent.messages.references import ModelVersion
from agent.models.model_files import SIGNATURE_SUFFIX
from agent.trust.index.kept_index import IndexKeeper
from agent.trust.index_state import IndexState
from agent.trust.minisign import MOST_LEGACY_BYTES, MOST_SIGNATURE_BYTES, BadSignatureError, PublicKey, Signature

if TYPE_CHECKING:
    from agent.trust.index.contents import Contents, IndexedModel
    from agent.trust.index.trusted_index import Read, VerifiedIndex

_MOST_ROOT_BYTES: Final = 256 << 10


class Witness(ByteSink, Protocol):
    """Takes the bytes of one file while they are hashed, and then says whether they are trusted."""

    def require(self) -> None:
        """Raise ModelError where the bytes taken are not trusted."""


class Verifier:
    """Verifier of models for one configuration. Threading: one thread at a time."""

    is_hashing: Final = True

    def __init__(
        self, trusted_keys: tuple[str, ...], root: str, state_dir: str, *, require_fresh: bool = False
    ) -> None:
        """Store the arguments; `root` empty: there is no index, and `trusted_keys` decide."""
        self._keys: Final = tuple(PublicKey.parse(key) for key in trusted_keys)
        self._root: Final = root
        self._keeper: Final = IndexKeeper(Path(state_dir))
        self._require_fresh: Final = require_fresh
        self._read_of: tuple[int, ...] = ()
        self._contents: Contents | None = None

    @property
    def has_index(self) -> bool:
        """True where a signed index decides, and no single signatures."""
        return bool(self._root)

    def accept_index(self, read: "Read", now: dt.datetime | None = None) -> "tuple[IndexedModel, ...]":
        """Verify the index that `read` serves, keep it as the newest one, and return its models.

        Raises ModelError as `verify_index` does, and "stale" where its time is over and `require_fresh` is set;
        TransientError where another process changes the kept index, and MistakeError where it cannot be written.
        """
        from agent.trust.index.trusted_index import verify_index  # noqa: PLC0415 - as in `verified_index`

        before = self._keeper.read()
        found = verify_index(self._anchor(), before, read)
        if self._require_fresh and (now or dt.datetime.now(dt.timezone.utc)) >= found.expires:
            detail = f"the index's time ended on {found.expires:%Y-%m-%d}: `changeover index publish` renews it"
            raise ModelError("stale", detail)
        if found.kept != before:
            self._keeper.replace(before, found.kept)
        self._keeper.tell(found.kept, _state_of(found))
        return tuple(found.contents.models.values())

    def verify_file(self, version: ModelVersion, path: Path) -> None:
        """Verify a model's file at `path` and the further ones beside it; `version` says what they must be.

        A signature is sought beside each file, or where `version` says. Raises ModelError ("unsigned", "revoked",
        "hash_mismatch", "file_missing").
        """
        self.require_listed(version)
        for name, sha256 in ((path.name, version.sha256), *((file.name, file.sha256) for file in version.files)):
            file = path.parent / name
            witness = self.witness(version, file, self.signature_of(version, file, is_main=file == path))
            try:
                with open_regular(file) as stream:
                    found = stream_sha256(stream, witness)
            except OSError as error:
                raise ModelError("file_missing", f"{file}: {(error.strerror or str(error)).lower()}") from None
            if found != sha256.lower():
                raise ModelError("hash_mismatch", f"{file} has sha256 {found}, expected {sha256}")
            witness.require()

    def require_listed(self, version: ModelVersion) -> None:
        """Raise ModelError where the index has not signed a version ("unsigned") or has revoked it ("revoked")."""
        if self._root:
            self._index().require(version)

    def witness(self, version: ModelVersion, file: Path, signature: Path) -> Witness:
        """Return what takes the bytes of one file of `version` while these are hashed.

        Raises ModelError ("unsigned") where there is no readable signature.
        """
        if not self._keys:
            return _NoSignature()  # because the index has signed the sha256
        try:
            return _SignatureWitness(self._keys, Signature.parse(read_signature(signature)), version, file)
        except BadSignatureError as error:
            raise ModelError("unsigned", f"{version.reference}: {signature}: {error}") from None

    @staticmethod
    def signature_of(version: ModelVersion, file: Path, *, is_main: bool) -> Path:
        """Return the path of a file's signature."""
        return (
            Path(version.signature) if is_main and version.signature else file.with_name(file.name + SIGNATURE_SUFFIX)
        )

    def verified_index(self) -> "VerifiedIndex":
        """Return the kept index, verified again. Raises ModelError where there is none, or it does not hold."""
        from agent.trust.index.trusted_index import verify_kept  # noqa: PLC0415 - its library takes 20 MB, for an index

        return verify_kept(self._anchor(), self._keeper.read())

    def _index(self) -> "Contents":
        """Return what the kept index says; it is verified again only when its file or the root has changed."""
        now = (*_stat_of(self._keeper.file), *_stat_of(Path(self._root)))
        if self._contents is None or now != self._read_of:
            found = self.verified_index()
            with suppress(ChangeoverError):  # because the index decides here, and its summary only tells
                self._keeper.tell(found.kept, _state_of(found))
            self._contents, self._read_of = found.contents, now
        return self._contents

    def _anchor(self) -> bytes:
        try:
            with open_regular(Path(self._root)) as file:
                return file.read(_MOST_ROOT_BYTES + 1)
        except PermissionError:
            raise ModelError("unsigned", denied(self._root)) from None
        except OSError as error:
            raise ModelError("unsigned", f"catalog.root: {self._root}: {(error.strerror or '').lower()}") from None


class _NoSignature:
    """Witness of a file whose sha256 is signed."""

    def write(self, data: bytes, /) -> int:
        return len(data)

    def require(self) -> None:
        return


class _SignatureWitness:
    """Witness of a file with a minisign signature."""

    def __init__(self, keys: tuple[PublicKey, ...], signature: Signature, version: ModelVersion, file: Path) -> None:
        self._keys: Final = keys
        self._signature: Final = signature
        self._version: Final = version
        self._file: Final = file
        self._hash: Final = hashlib.blake2b()
        self._content: Final = bytearray()

    def write(self, data: bytes, /) -> int:
        if self._signature.is_prehashed:
            self._hash.update(data)
        elif len(self._content) <= MOST_LEGACY_BYTES:
            self._content.extend(data)
        return len(data)

    def require(self) -> None:
        signature = self._signature
        if len(self._content) > MOST_LEGACY_BYTES:
            detail = f"{self._file} is too large for a legacy signature: sign it again without -l"
            raise ModelError("unsigned", f"{self._version.reference}: {detail}")
        try:
            signature.require(self._keys, self._hash.digest() if signature.is_prehashed else bytes(self._content))
            signature.require_reference(self._version.reference)
        except BadSignatureError as error:
            where = f"{self._version.reference}: the signature of {self._file}"
            raise ModelError("unsigned", f"{where}: {error}") from None


def read_signature(path: Path) -> bytes:
    """Read a signature's file, with one byte more than is allowed. Raises BadSignatureError."""
    try:
        with open_regular(path) as file:
            return file.read(MOST_SIGNATURE_BYTES + 1)
    except FileNotFoundError:
        raise BadSignatureError("there is none: `changeover models sign FILE --key KEY` makes it") from None
    except OSError as error:
        raise BadSignatureError((error.strerror or str(error)).lower()) from None


def _state_of(found: "VerifiedIndex") -> IndexState:
    contents = found.contents
    expires = f"{found.expires:%Y-%m-%dT%H:%M:%SZ}"
    return IndexState(found.issued, expires, contents.revoked_models, tuple(sorted(contents.revoked_sha256)))


def _stat_of(path: Path) -> tuple[int, ...]:
    try:
        info = os.stat(path)  # noqa: PTH116 - a tuple of its own beside the others
    except OSError:
        return ()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
