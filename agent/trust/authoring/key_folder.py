"""Secret keys in a folder of their own, which stays on the machine that it was made on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.files import open_regular, sync_path
from agent.messages.errors import MistakeError, denied
from agent.trust.minisign import BadKeyError, PublicKey, SecretKey, is_encrypted

_KEY_ENDING: Final = ".key"
_PUB_ENDING: Final = ".pub"
_MOST_BYTES: Final = 4096

Ask = Callable[[str], str]
"""Asks the user for the password of the key that the argument names."""


class KeyFolder:
    """Secret keys NAME.key with their public halves NAME.pub; passwords are asked for once a key."""

    def __init__(self, folder: Path, ask: Ask) -> None:
        self._folder: Final = folder
        self._ask: Final = ask
        self._known: Final[dict[bytes, SecretKey]] = {}

    def make(self, name: str, password: str | None) -> PublicKey:
        """Make a key pair. Raises MistakeError where one of this name is there, or it cannot be written."""
        key = SecretKey.make()
        secret = self._folder / f"{name}{_KEY_ENDING}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_new(secret, key.as_file(password), 0o600)
            write_new(self._folder / f"{name}{_PUB_ENDING}", key.public.as_file(), 0o644)
            sync_path(self._folder)
        except FileExistsError as error:
            raise MistakeError(f"{error.filename} is there already: a key is never replaced") from None
        except OSError as error:
            raise MistakeError(f"{error.filename or secret}: {(error.strerror or str(error)).lower()}") from None
        self._known[key.public.raw] = key
        return key.public

    def new_name(self, role: str) -> str:
        """Return a name for a further key of `role` that is not taken here."""
        taken = [number for number in range(1, 1000) if (self._folder / f"{role}-{number}{_KEY_ENDING}").exists()]
        return f"{role}-{max(taken, default=0) + 1}"

    def secret(self, public: bytes) -> SecretKey | None:
        """Return the secret half of a bare public key; None where it is not in this folder.

        Raises BadKeyError for a wrong password, and MistakeError for a key that others may read.
        """
        if public not in self._known:
            for path in sorted(self._folder.glob(f"*{_PUB_ENDING}")):
                if read_public(path).raw == public and path.with_suffix(_KEY_ENDING).is_file():
                    self._known[public] = read_secret(path.with_suffix(_KEY_ENDING), self._ask)
        return self._known.get(public)


def read_public(path: Path) -> PublicKey:
    """Read a public key's file. Raises MistakeError."""
    try:
        return PublicKey.parse(_read(path))
    except BadKeyError as error:
        raise BadKeyError(f"{path}: {error}") from None


def read_secret(path: Path, ask: Ask) -> SecretKey:
    """Read a secret key's file, and ask for its password where it has one. Raises MistakeError."""
    text = _read(path)
    if os.stat(path).st_mode & 0o077:  # noqa: PTH116 - follows a link, as the read does
        raise MistakeError(f"{path} can be read by others: `chmod 600 {path}`, and make a new key if somebody did")
    try:
        return SecretKey.parse(text, ask(str(path)) if is_encrypted(text) else None)
    except BadKeyError as error:
        raise BadKeyError(f"{path}: {error}") from None


def _read(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read(_MOST_BYTES).decode()
    except UnicodeDecodeError:
        raise MistakeError(f"{path}: found no key, expected a text file") from None
    except PermissionError:
        raise MistakeError(denied(path)) from None
    except OSError as error:
        raise MistakeError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a new file with a mode, and sync it. Raises FileExistsError, and OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
