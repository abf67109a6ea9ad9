"""Guard of the routes: checks a request's origin, its session and the user's role, before anything else is read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

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
    # The host alone, because a proxy that ends TLS changes the scheme.
    return urlsplit(origin).netloc == connection.headers.get("host", "") != ""


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


def _check(request: Request, row: Row, sessions: Sessions) -> tuple[Response | None, User | None]:
    if not is_own_origin(request, required=row.method not in SAFE_METHODS):
        return refused(403, "foreign_origin"), None
    if row.access == "public":
        return None, None
    user = sessions.user_of(token_of(request))
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
        user = sessions.user_of(token_of(socket))
        if not is_own_origin(socket, required=True) or user is None or not may(user, role):
            await socket.close(1008)  # before it is accepted, which answers 403
            return
        await handler(socket)

    return endpoint
