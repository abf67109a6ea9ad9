"""Minisign's keys and signatures: Ed25519 over a file (`Ed`), or over its BLAKE2b hash (`ED`).

The format is that of https://jedisct1.github.io/minisign/. It is parsed strictly, so that a file has one reading.
"""

import base64
import binascii
import hashlib
import os
import re
import struct
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.messages.errors import MistakeError

MOST_LEGACY_BYTES: Final = 64 << 20
"""Largest file with a legacy signature, which needs the whole file in memory."""
MOST_SIGNATURE_BYTES: Final = 4096
_PREHASHED: Final = b"ED"
_LEGACY: Final = b"Ed"
_UNTRUSTED: Final = "untrusted comment: "
_TRUSTED: Final = "trusted comment: "
_MODEL: Final = "model:"
_BARE_HEX: Final = re.compile("[0-9a-fA-F]{64}")
_RAW_BYTES: Final = 32
_SCRYPT: Final = b"Sc"
_NO_KDF: Final = b"\0\0"
_CHECKSUM: Final = b"B2"
_SECRET: Final = struct.Struct("<2s2s2s32sQQ104s")
_KEY_PAIR: Final = struct.Struct("<8s64s32s")
_MOST_SCRYPT_BYTES: Final = 2 << 30
_OPS_LIMIT: Final = 1 << 22
_MEMORY_LIMIT: Final = 1 << 28
"""Costs of the password of a key that is made here: N = 2^17, 128 MB of memory, about a second."""
_R: Final = 8
_FEWEST_OPS: Final = 32768
_MOST_RP: Final = (1 << 30) - 1


class BadSignatureError(MistakeError):
    """A signature is malformed, of another key, or not of these bytes."""


class BadKeyError(MistakeError):
    """A key cannot be read, or its password is wrong."""


@dataclass(frozen=True)
class PublicKey:
    """A public key with the id that its signatures name."""

    key_id: bytes
    """Eight bytes; empty for a bare Ed25519 key, which fits every id."""
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Parse a public key: the line `RW...`, a whole file, or 32 bytes in base64 or hex. Raises BadKeyError."""
        lines = text.strip().split("\n")
        if len(lines) == 2 and lines[0].startswith(_UNTRUSTED):  # noqa: PLR2004 - a comment and the key
            lines = lines[1:]
        line = lines[0].strip() if len(lines) == 1 else ""
        content = bytes.fromhex(line) if _BARE_HEX.fullmatch(line) else _decoded(line)
        if content is not None and len(content) == _RAW_BYTES:
            return cls(b"", content)
        if content is None or len(content) != 2 + 8 + _RAW_BYTES or content[:2] != _LEGACY:
            raise BadKeyError("found no public key, expected the 56 characters that `minisign` prints (RW...)")
        return cls(content[2:10], content[10:])

    @property
    def line(self) -> str:
        """The key as one line, `RW...`."""
        return base64.b64encode(_LEGACY + self.key_id + self.raw).decode()

    @property
    def name(self) -> str:
        """The key's id as minisign prints it."""
        return self.key_id[::-1].hex().upper()

    def as_file(self) -> str:
        """Return the content of a public key's file."""
        return f"{_UNTRUSTED}minisign public key {self.name}\n{self.line}\n"

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Return True where `signature` is this key's Ed25519 signature of `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signature:
    """The content of a .minisig file; its untrusted comment is dropped, because nothing protects it."""

    is_prehashed: bool
    key_id: bytes
    of_file: bytes
    trusted_comment: str
    of_comment: bytes

    @classmethod
    def parse(cls, content: bytes) -> "Signature":
        """Parse a .minisig file strictly. Raises BadSignatureError."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = ""
        lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
        if len(content) > MOST_SIGNATURE_BYTES or len(lines) != 4:  # noqa: PLR2004 - the format's lines
            raise BadSignatureError("it is no minisign signature (four lines)")
        own, of_comment = _decoded(lines[1]), _decoded(lines[3])
        is_formed = lines[0].startswith(_UNTRUSTED) and lines[2].startswith(_TRUSTED)
        if own is None or of_comment is None or not is_formed or (len(own), len(of_comment)) != (74, 64):
            raise BadSignatureError("it is no minisign signature (a line of it is malformed)")
        if own[:2] not in {_PREHASHED, _LEGACY}:
            raise BadSignatureError("its algorithm is neither ED nor Ed")
        return cls(own[:2] == _PREHASHED, own[2:10], own[10:], lines[2].removeprefix(_TRUSTED), of_comment)

    def as_file(self) -> bytes:
        """Return the content of a .minisig file."""
        algorithm = _PREHASHED if self.is_prehashed else _LEGACY
        own = base64.b64encode(algorithm + self.key_id + self.of_file).decode()
        other = base64.b64encode(self.of_comment).decode()
        comment = f"{_UNTRUSTED}signature from minisign secret key"
        return f"{comment}\n{own}\n{_TRUSTED}{self.trusted_comment}\n{other}\n".encode()

    def require(self, keys: tuple[PublicKey, ...], message: bytes) -> PublicKey:
        """Return the key that signed `message`: the file, or the BLAKE2b hash of it where `is_prehashed`.

        Raises BadSignatureError where none of `keys` did, or where the trusted comment is not that of the signature.
        """
        named = [key for key in keys if key.key_id in {b"", self.key_id}]
        if not named:
            raise BadSignatureError(f"it is by the key {self.key_id[::-1].hex().upper()}, which is not trusted here")
        for key in named:
            if key.holds(self.of_file, message):
                if not key.holds(self.of_comment, self.of_file + self.trusted_comment.encode()):
                    raise BadSignatureError("its trusted comment was altered")
                return key
        raise BadSignatureError("it is not of this file: the file or the signature was altered")

    def require_reference(self, reference: str) -> None:
        """Raise BadSignatureError where the trusted comment names another model than `reference`."""
        for field_ in self.trusted_comment.split("\t"):
            if field_.startswith(_MODEL) and field_ != f"{_MODEL}{reference}":
                raise BadSignatureError(f"it is for {field_.removeprefix(_MODEL)} alone")


@dataclass(frozen=True)
class SecretKey:
    """A secret key, decrypted; it is shown nowhere."""

    key_id: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def make(cls) -> "SecretKey":
        """Make a new key from the system's randomness."""
        return cls(os.urandom(8), os.urandom(32))

    @classmethod
    def parse(cls, text: str, password: str | None) -> "SecretKey":
        """Parse a secret key's file; `password` None: it is not encrypted. Raises BadKeyError."""
        fields = _secret_fields(text)
        algorithm, kdf, checksum, salt, ops_limit, memory_limit, body = fields
        if (algorithm, checksum) != (_LEGACY, _CHECKSUM):
            raise BadKeyError("found a key of another algorithm, expected Ed25519 as minisign makes it")
        if kdf == _SCRYPT:
            if password is None:
                raise BadKeyError("found an encrypted key, expected its password too")
            body = _masked(body, password, salt, ops_limit, memory_limit)
        key_id, pair, found = _KEY_PAIR.unpack(body)
        if found != _checksum(key_id, pair):
            raise BadKeyError("the password is wrong, or the key is damaged")
        key = cls(key_id, pair[:32])
        if key.public.raw != pair[32:]:
            raise BadKeyError("the key is damaged: its halves do not belong together")
        return key

    @property
    def public(self) -> PublicKey:
        """The public key of the pair."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return PublicKey(self.key_id, public.public_bytes(Encoding.Raw, PublicFormat.Raw))

    def as_file(self, password: str | None) -> str:
        """Return the content of a secret key's file, encrypted with `password` unless it is None."""
        pair = self.seed + self.public.raw
        body = _KEY_PAIR.pack(self.key_id, pair, _checksum(self.key_id, pair))
        kdf, salt, limits = _NO_KDF, bytes(32), (0, 0)
        if password is not None:
            kdf, salt, limits = _SCRYPT, os.urandom(32), (_OPS_LIMIT, _MEMORY_LIMIT)
            body = _masked(body, password, salt, *limits)
        content = _SECRET.pack(_LEGACY, kdf, _CHECKSUM, salt, *limits, body)
        words = "minisign encrypted secret key" if password is not None else "minisign secret key"
        return f"{_UNTRUSTED}{words}\n{base64.b64encode(content).decode()}\n"

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the bare Ed25519 signature of `message`."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)

    def sign(self, prehash: bytes, trusted_comment: str) -> Signature:
        """Return the signature of a file whose BLAKE2b hash is `prehash`."""
        of_file = self.sign_bytes(prehash)
        of_comment = self.sign_bytes(of_file + trusted_comment.encode())
        return Signature(
            is_prehashed=True,
            key_id=self.key_id,
            of_file=of_file,
            trusted_comment=trusted_comment,
            of_comment=of_comment,
        )


def comment_for(name: str, at_s: int, reference: str) -> str:
    """Return the trusted comment of a signature, as minisign words it, with the model that the file is."""
    model = f"\t{_MODEL}{reference}" if reference else ""
    return f"timestamp:{at_s}\tfile:{name}\thashed{model}"


def is_encrypted(text: str) -> bool:
    """Return True where a secret key's file needs a password. Raises BadKeyError where it is none."""
    return _secret_fields(text)[1] == _SCRYPT


def _secret_fields(text: str) -> tuple[bytes, bytes, bytes, bytes, int, int, bytes]:
    lines = text.strip().split("\n")
    content = _decoded(lines[-1].strip()) if len(lines) == 2 else None  # noqa: PLR2004 - a comment and the key
    if content is None or len(content) != _SECRET.size:
        raise BadKeyError("found no minisign secret key, expected a file as `minisign -G` or `index init` writes it")
    fields = _SECRET.unpack(content)
    if fields[1] not in {_SCRYPT, _NO_KDF}:
        raise BadKeyError("found a key encrypted by another method than scrypt")
    return fields


def _checksum(key_id: bytes, pair: bytes) -> bytes:
    return hashlib.blake2b(_LEGACY + key_id + pair, digest_size=32).digest()


def _masked(body: bytes, password: str, salt: bytes, ops_limit: int, memory_limit: int) -> bytes:
    """Encrypt or decrypt a key pair with the stream that scrypt derives from a password."""
    log_n, p = _scrypt_costs(ops_limit, memory_limit)
    most_bytes = 128 * _R * ((1 << log_n) + p + 2)
    if most_bytes > _MOST_SCRYPT_BYTES:
        raise BadKeyError("found a key whose password takes more than 2 GB of memory to try")
    try:
        stream = hashlib.scrypt(
            password.encode(), salt=salt, n=1 << log_n, r=_R, p=p, maxmem=most_bytes + (1 << 20), dklen=len(body)
        )
    except (ValueError, MemoryError) as error:
        raise BadKeyError(f"the password cannot be tried here: {error}") from None
    return bytes(one ^ other for one, other in zip(body, stream, strict=True))


def _scrypt_costs(ops_limit: int, memory_limit: int) -> tuple[int, int]:
    """Return log2(N) and p as libsodium picks them for its two limits; r is 8."""
    ops_limit = max(ops_limit, _FEWEST_OPS)
    is_short_of_ops = ops_limit < memory_limit // 32
    most_n = ops_limit // (_R * 4) if is_short_of_ops else memory_limit // (_R * 128)
    log_n = next((log for log in range(1, 63) if (1 << log) > most_n // 2), 63)
    if is_short_of_ops:
        return log_n, 1
    return log_n, max(1, min((ops_limit // 4) // (1 << log_n), _MOST_RP) // _R)


def _decoded(line: str) -> bytes | None:
    """Decode canonical base64; None for anything else, also for what decodes to the same bytes."""
    try:
        content = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if base64.b64encode(content).decode() == line else None
