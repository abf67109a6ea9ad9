"""Browsers that a user has logged in with: a cookie proves it, and gives them tries that nobody else can use up."""

import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path
from typing import Final

from agent.files import replace_file
from agent.processes.private_files import FILE_MODE, FOLDER_MODE
from agent.web.console.access.users import FOLDER, User

_log: Final = logging.getLogger(__name__)
LIFE_S: Final = 180 * 86400
_FILE: Final = "known.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_LONGEST: Final = 128


class KnownBrowsers:
    """Makes and checks the cookies, by a key that stays on the device."""

    def __init__(self, state_dir: Path) -> None:
        self._path: Final = state_dir / FOLDER / _FILE
        self._key = os.urandom(_KEY_BYTES)

    def load(self) -> None:
        """Read the key, or make one; without a disk a cookie lasts as long as the process."""
        try:
            key = self._path.read_bytes()
        except FileNotFoundError:
            key = b""
        except OSError as error:
            _log.warning("event=console_key_unread detail=%r", str(error))
            return
        if len(key) == _KEY_BYTES:
            self._key = key
            return
        try:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            replace_file(self._path, self._key, sync=True, mode=FILE_MODE)
        except OSError as error:
            _log.warning("event=console_key_unsaved detail=%r", str(error))

    def cookie_of(self, user: User) -> str:
        """Return a cookie that is good for this user alone, until the password changes."""
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        return f"{nonce}.{self._proof(nonce, user)}"

    def is_of(self, cookie: str, user: User | None) -> bool:
        """Return True for a cookie that was made for this user."""
        nonce, _, proof = cookie[:_LONGEST].partition(".")
        return user is not None and hmac.compare_digest(proof.encode(), self._proof(nonce, user).encode())

    def _proof(self, nonce: str, user: User) -> str:
        text = f"{nonce}\n{user.name}\n{user.stamp}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
