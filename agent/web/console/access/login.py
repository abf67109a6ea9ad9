"""Login, logout, and what a page may know of its own session."""

import asyncio
import logging
import math
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent.messages.errors import MistakeError
from agent.web.console.access.body import RefusedError, read_json
from agent.web.console.access.guard import COOKIE, PATH, refused, token_of
from agent.web.console.access.known import LIFE_S, KnownBrowsers
from agent.web.console.access.login_rate import LoginRate
from agent.web.console.access.sessions import Sessions
from agent.web.console.access.users import User, Users

_log: Final = logging.getLogger(__name__)
KNOWN: Final = "changeover_known"
"""The cookie of a browser that a user has logged in with; it lets nobody in."""
_LONGEST_BYTES: Final = 4096


class Credentials(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a login."""

    name: str
    password: str


class Login:
    """Begins and ends sessions."""

    def __init__(self, users: Users, sessions: Sessions, known: KnownBrowsers) -> None:
        self._users: Final = users
        self._sessions: Final = sessions
        self._known: Final = known
        self._rate: Final = LoginRate()
        self._hashing: Final = asyncio.Lock()
        """Held while a password is hashed, because each hash takes 16 MiB and a core."""

    async def begin(self, request: Request, _user: User | None) -> Response:
        """Start a session for a right name and password."""
        address = request.client.host if request.client is not None else ""
        try:
            given = await read_json(request, Credentials, _LONGEST_BYTES)
            key = self._browser(request, given.name)
            wait_s = self._rate.take(address, key)
            if wait_s > 0:
                _log.warning("event=login_limited address=%s", address)
                return _limited(wait_s)
            user = await self._check(given)
            if user is None:
                _log.warning("event=login_failed user=%r address=%s", given.name[:64], address)
                return refused(401, "wrong")
            self._rate.give_back(address, key)
            self._sessions.end(token_of(request))
            token = self._sessions.begin(user)
            left_s = self._sessions.left_s(token)
        except RefusedError as error:
            return refused(error.status, str(error))
        except (MistakeError, OSError) as error:
            _log.error("event=console_users_unreadable detail=%r", str(error))
            return refused(503, "users_unreadable")
        _log.info("event=login user=%s role=%s address=%s", user.name, user.role, address)
        response = _told(user, left_s)
        _set_cookie(response, request, COOKIE, token, round(left_s))
        _set_cookie(response, request, KNOWN, self._known.cookie_of(user), LIFE_S)
        return response

    async def end(self, request: Request, user: User | None) -> Response:
        """End the session."""
        assert user is not None
        _log.info("event=logout user=%s", user.name)
        self._sessions.end(token_of(request))
        response = JSONResponse({}, headers={"cache-control": "no-store"})
        _set_cookie(response, request, COOKIE, "", 0)
        return response

    async def tell(self, request: Request, user: User | None) -> Response:
        """Answer with the session's user, role and seconds left."""
        assert user is not None
        try:
            return _told(user, self._sessions.left_s(token_of(request)))
        except RefusedError as error:
            return refused(error.status, str(error))

    def _browser(self, request: Request, name: str) -> str:
        """Return the key of a browser that this user has logged in with; empty for any other."""
        cookie = request.cookies.get(KNOWN, "")
        return cookie if cookie and self._known.is_of(cookie, self._users.get(name)) else ""

    async def _check(self, given: Credentials) -> User | None:
        async with self._hashing:
            check = partial(self._users.check, given.name, given.password)
            return await asyncio.get_running_loop().run_in_executor(None, check)


def _told(user: User, left_s: float) -> Response:
    told = {"user": user.name, "role": user.role, "left_s": round(left_s)}
    return JSONResponse(told, headers={"cache-control": "no-store"})


def _limited(wait_s: float) -> Response:
    response = refused(429, "too_many_logins")
    response.headers["retry-after"] = str(math.ceil(wait_s))
    return response


def _set_cookie(response: Response, request: Request, name: str, value: str, seconds: int) -> None:
    is_secure = request.scope["scheme"] == "https"
    response.set_cookie(name, value, seconds, path=PATH, secure=is_secure, httponly=True, samesite="strict")
