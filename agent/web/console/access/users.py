"""The console's users: a private file of names, roles and scrypt hashes, in the state folder."""

import hashlib
import hmac
import os
import re
import unicodedata
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from agent.files import locked, replace_file
from agent.messages.errors import MistakeError, TransientError, denied
from agent.processes.private_files import FILE_MODE, FOLDER_MODE, make_private

Role = Literal["viewer", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles, each of which may do what those before it may."""
FOLDER: Final = "console"
MOST_USERS: Final = 256
LEAST_CHARACTERS: Final = 10
_FILE: Final = "users.json"
_LOCK: Final = "users.lock"
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_LONGEST_PASSWORD_BYTES: Final = 1024
_LOCK_S: Final = 5.0
_SALT_BYTES: Final = 16
# 16 MiB and about 0.2 s a login, as strong as OWASP's N=2^17, r=8, p=1, in memory that a small device has.
_N, _R, _P = 2**14, 8, 5
_MEMORY_BYTES: Final = 64 * 2**20


class User(msgspec.Struct, frozen=True):
    """One user; `salt` and `hash` are hexadecimal."""

    name: str
    role: Role
    salt: str
    hash: str

    @property
    def stamp(self) -> str:
        """A digest that changes with the password, so that sessions of an earlier one end."""
        return hashlib.sha256(f"{self.salt}{self.hash}".encode()).hexdigest()[:16]


class UsersFile(msgspec.Struct, frozen=True):
    """Content of the file."""

    users: list[User]
    v: int = 1


class Users:
    """The users of one device; reads the file again when it has changed. For one thread."""

    def __init__(self, state_dir: Path) -> None:
        self._folder: Final = state_dir / FOLDER
        self._path: Final = self._folder / _FILE
        self._seen: tuple[int, ...] = ()
        self._users: dict[str, User] = {}

    def get(self, name: str) -> User | None:
        """Return a user; None without one. Raises OSError or MistakeError where the file cannot be read."""
        return self.all().get(name)

    def all(self) -> dict[str, User]:
        """Return all users by name. Raises OSError or MistakeError where the file cannot be read."""
        try:
            info = self._path.stat()
        except FileNotFoundError:
            self._seen, self._users = (), {}
            return self._users
        seen = (info.st_mtime_ns, info.st_size, info.st_ino)
        if seen != self._seen:
            self._users = {user.name: user for user in self._read()}
            self._seen = seen
        return self._users

    def check(self, name: str, password: str) -> User | None:
        """Return the user where the password is right, else None; takes the same time for unknown names."""
        user = self.get(name)
        salt = bytes.fromhex(user.salt) if user is not None else bytes(_SALT_BYTES)
        is_right = hmac.compare_digest(_hash(password, salt), user.hash if user is not None else "")
        return user if is_right else None

    def add(self, name: str, role: Role, password: str) -> bool:
        """Add a user, or give one a new role and password; return True where it is new. Raises MistakeError."""
        if not _NAME.fullmatch(name):
            raise MistakeError(f"found the name {name!r}, expected 1 to 64 letters, digits, dots, dashes, @ or _")
        if len(password) < LEAST_CHARACTERS or len(password.encode()) > _LONGEST_PASSWORD_BYTES:
            raise MistakeError(f"a password has at least {LEAST_CHARACTERS} characters, and at most 1024 bytes")
        salt = os.urandom(_SALT_BYTES)
        user = User(name, role, salt.hex(), _hash(password, salt))
        return self._change(user, name)

    def remove(self, name: str) -> bool:
        """Remove a user, whose sessions end; return False where there is none."""
        return self._change(None, name)

    def _change(self, user: User | None, name: str) -> bool:
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        make_private(self._folder)
        try:
            with locked(self._folder / _LOCK, _LOCK_S):
                make_private(self._folder / _LOCK)
                users = dict(self.all())
                was_there = users.pop(name, None) is not None
                if user is not None:
                    users[name] = user
                if len(users) > MOST_USERS:
                    raise MistakeError(f"a device has at most {MOST_USERS} users")
                data = msgspec.json.format(msgspec.json.encode(UsersFile(list(users.values()))))
                replace_file(self._path, data, sync=True, mode=FILE_MODE)
                make_private(self._path)
        except BlockingIOError:
            raise TransientError(f"{self._path} is being changed by another command; try again") from None
        return was_there if user is None else not was_there

    def _read(self) -> list[User]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=UsersFile).users
        except PermissionError:
            raise MistakeError(denied(self._path)) from None
        except msgspec.DecodeError as error:
            raise MistakeError(f"{self._path} is damaged ({error}); delete it and add the users again") from None


def _hash(password: str, salt: bytes) -> str:
    text = unicodedata.normalize("NFC", password).encode()[: _LONGEST_PASSWORD_BYTES + 1]
    return hashlib.scrypt(text, salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY_BYTES, dklen=32).hex()
