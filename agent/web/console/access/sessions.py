"""Sessions of the console: random tokens, kept as hashes; they end by time, idleness, logout and change of the user."""

import hashlib
import logging
import secrets
import time
from pathlib import Path
from typing import Final

import msgspec

from agent.files import replace_file
from agent.messages.errors import MistakeError
from agent.processes.private_files import FILE_MODE, FOLDER_MODE
from agent.web.console.access.body import RefusedError
from agent.web.console.access.users import FOLDER, Role, User, Users

_log: Final = logging.getLogger(__name__)
MOST_SESSIONS: Final = 128
LIFE_S: Final[dict[Role, float]] = {"viewer": 30 * 86400.0, "operator": 12 * 3600.0, "admin": 12 * 3600.0}
"""Longest life of a session; long for a viewer, because a panel on a wall only looks."""
IDLE_S: Final[dict[Role, float]] = {"viewer": 30 * 86400.0, "operator": 3600.0, "admin": 3600.0}
"""Time without a request or an open page after which a session ends."""
_FILE: Final = "sessions.json"
_TOKEN_BYTES: Final = 32


class Session(msgspec.Struct):
    """One session; times are Unix seconds."""

    key: str
    """sha256 of the token, so that nobody who reads the file gets in."""
    user: str
    stamp: str
    """`User.stamp` at login."""
    began_s: float
    seen_s: float


class Sessions:
    """All sessions; kept over restarts of the process. For one thread."""

    def __init__(self, state_dir: Path, users: Users) -> None:
        self._path: Final = state_dir / FOLDER / _FILE
        self._users: Final = users
        self._sessions: dict[str, Session] = {}
        self._told = ""
        """Last error of reading the users that was logged; empty once they could be read."""

    def load(self) -> None:
        """Read the sessions of the last run; a file that cannot be read means that everybody logs in again."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=list[Session])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("event=console_sessions_lost detail=%r", str(error))
            return
        now_s = time.time()
        # The idle time starts again, because nobody could reach a device that restarted.
        self._sessions = {one.key: _seen(one, now_s) for one in found[-MOST_SESSIONS:]}

    def begin(self, user: User) -> str:
        """Start a session and return its token; the one seen longest ago goes where there are too many."""
        token, now_s = secrets.token_urlsafe(_TOKEN_BYTES), time.time()
        self._drop_ended()
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions.values(), key=lambda one: one.seen_s).key]
        session = Session(_key(token), user.name, user.stamp, now_s, now_s)
        self._sessions[session.key] = session
        self._save()
        return token

    def user_of(self, token: str | None) -> User | None:
        """Return the user of a session that has not ended, with the present role; None without one.

        Raises RefusedError where the users cannot be read, which ends no session.
        """
        session = self._sessions.get(_key(token)) if token else None
        if session is None:
            return None
        user = self._valid_user(session)
        if user is None:
            del self._sessions[session.key]
            self._save()
            return None
        session.seen_s = time.time()
        return user

    def end(self, token: str | None) -> None:
        """End a session, as a logout does."""
        if token and self._sessions.pop(_key(token), None) is not None:
            self._save()

    def left_s(self, token: str | None) -> float:
        """Return the seconds until a session ends, however much it is used; 0 without one."""
        session = self._sessions.get(_key(token)) if token else None
        user = self._user(session) if session is not None else None
        if session is None or user is None:
            return 0.0
        return max(0.0, session.began_s + LIFE_S[user.role] - time.time())

    def _valid_user(self, session: Session) -> User | None:
        user, now_s = self._user(session), time.time()
        if user is None or user.stamp != session.stamp:
            return None
        # A clock that was set back makes a session no longer than its life.
        age_s, idle_s = abs(now_s - session.began_s), abs(now_s - session.seen_s)
        return user if age_s < LIFE_S[user.role] and idle_s < IDLE_S[user.role] else None

    def _user(self, session: Session) -> User | None:
        try:
            user = self._users.get(session.user)
        except (MistakeError, OSError) as error:
            if self._told != str(error):
                self._told = str(error)
                _log.error("event=console_users_unreadable detail=%r", self._told)
            raise RefusedError(503, "users_unreadable") from None
        self._told = ""
        return user

    def _drop_ended(self) -> None:
        self._sessions = {key: one for key, one in self._sessions.items() if self._valid_user(one) is not None}

    def _save(self) -> None:
        """Write the sessions; without a disk they last as long as the process."""
        try:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            replace_file(self._path, msgspec.json.encode(list(self._sessions.values())), sync=False, mode=FILE_MODE)
        except OSError as error:
            _log.warning("event=console_sessions_unsaved detail=%r", str(error))


def _key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _seen(session: Session, now_s: float) -> Session:
    session.seen_s = now_s
    return session
