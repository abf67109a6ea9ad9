"""Guard of the routes: checks a request's origin, its session and the user's role, before anything else is read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from agent.web.console.access.body import RefusedError
from agent.web.console.access.sessions import Sessions
from agent.web.console.access.users import ROLES, Role, User

COOKIE: Final = "changeover_session"
PATH: Final = "/console"
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every answer; pages and scripts come from this device alone."""

Access = Literal["public", Role]
Handler = Callable[[Request, "User | None"], Awaitable[Response]]
SocketHandler = Callable[[WebSocket], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One row of the table of routes."""

    method: Literal["GET", "POST", "WS"]
    path: str
    access: Access
    """The least role; `public` needs no session."""
    handler: Handler | None = None
    socket: SocketHandler | None = None


def may(user: User, role: Role) -> bool:
    """Return True where the user's role is `role` or one above it."""
    return ROLES.index(user.role) >= ROLES.index(role)


def token_of(connection: HTTPConnection) -> str | None:
    """Return the session token that a request brings."""
    return connection.cookies.get(COOKIE)


def is_own_origin(connection: HTTPConnection, *, required: bool) -> bool:
    """Return True where the request comes from a page of this device; without an Origin unless it is `required`."""
    origin = connection.headers.get("origin")
    if origin is None:
        return not required
    scheme, _, host = origin.lower().partition("://")
    # A proxy that ends TLS makes http of https; nothing makes https of a page that came by http.
    is_as_safe = scheme == "https" or (scheme == "http" and connection.scope["scheme"] in {"http", "ws"})
    return is_as_safe and host == connection.headers.get("host", "").lower() != ""


def guarded(row: Row, sessions: Sessions) -> BaseRoute:
    """Return the route of a row, behind its checks."""
    if row.method == "WS":
        return WebSocketRoute(row.path, _guarded_socket(row, sessions))
    handler = row.handler
    assert handler is not None

    async def endpoint(request: Request) -> Response:
        refusal, user = _check(request, row, sessions)
        response = refusal or await handler(request, user)
        response.headers.update(HEADERS)
        return response

    return Route(row.path, endpoint, methods=[row.method])


def refused(status: int, error: str) -> Response:
    """Return an answer that says what was wrong."""
    return JSONResponse({"error": error}, status, headers={"cache-control": "no-store"})


async def unrouted(_request: Request, error: Exception) -> Response:
    """Answer what no route answers, or not by that method, with the headers of every answer."""
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, error.status_code, {**(error.headers or {}), **HEADERS})


def _check(request: Request, row: Row, sessions: Sessions) -> tuple[Response | None, User | None]:
    if not is_own_origin(request, required=row.method not in SAFE_METHODS):
        return refused(403, "foreign_origin"), None
    if row.access == "public":
        return None, None
    try:
        user = sessions.user_of(token_of(request))
    except RefusedError as error:
        return refused(error.status, str(error)), None
    if user is None:
        return refused(401, "no_session"), None
    if not may(user, row.access):
        return refused(403, "role"), None
    return None, user


def _guarded_socket(row: Row, sessions: Sessions) -> SocketHandler:
    handler = row.socket
    assert handler is not None
    assert row.access != "public"
    role: Role = row.access

    async def endpoint(socket: WebSocket) -> None:
        if not is_own_origin(socket, required=True) or not _may_enter(socket, sessions, role):
            await socket.close(1008)  # before it is accepted, which answers 403
            return
        await handler(socket)

    return endpoint


def _may_enter(socket: WebSocket, sessions: Sessions, role: Role) -> bool:
    try:
        user = sessions.user_of(token_of(socket))
    except RefusedError:
        return False
    return user is not None and may(user, role)
