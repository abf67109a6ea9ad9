"""Signs a model's file with a minisign key."""

import hashlib
import time
from pathlib import Path

from agent.files import open_regular, replace_file, stream_sha256
from agent.messages.errors import MistakeError, ModelError
from agent.models.model_files import SIGNATURE_SUFFIX, companions
from agent.trust.minisign import SecretKey, comment_for


def sign_model(file: Path, key: SecretKey, reference: str = "") -> tuple[Path, ...]:
    """Write FILE.minisig beside a model's file, and beside each further file that is read with it; return their paths.

    Raises MistakeError where a file cannot be read or written.
    """
    try:
        names = companions(file)
    except (ModelError, OSError):
        names = ()  # because any file can be signed; a load refuses what is no model
    return tuple(sign_file(path, key, reference) for path in (file, *(file.parent / name for name in names)))


def sign_file(file: Path, key: SecretKey, reference: str = "") -> Path:
    """Write FILE.minisig beside a file, as `minisign -S` does; for one model alone where `reference` names it.

    Raises MistakeError.
    """
    digest = hashlib.blake2b()
    target = file.with_name(file.name + SIGNATURE_SUFFIX)
    try:
        with open_regular(file) as stream:
            stream_sha256(stream, _Hashed(digest))
        comment = comment_for(file.name, int(time.time()), reference)
        replace_file(target, key.sign(digest.digest(), comment).as_file(), sync=True, mode=0o644)
    except OSError as error:
        raise MistakeError(f"{error.filename or file}: {(error.strerror or str(error)).lower()}") from None
    return target


class _Hashed:
    """Feeds a hash with what is written."""

    def __init__(self, digest: "hashlib.blake2b") -> None:
        self._digest = digest

    def write(self, data: bytes, /) -> int:
        self._digest.update(data)
        return len(data)
