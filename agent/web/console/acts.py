"""Acts of users: each becomes a command of the contract, on the way of those that come over MQTT."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agent.messages.errors import TransientError
from agent.messages.payloads import Ack
from agent.messages.topics import is_id
from agent.web.console.access.body import RefusedError, read_json
from agent.web.console.access.guard import may, refused
from agent.web.console.access.users import Role, User
from agent.web.console.board import Board

_log: Final = logging.getLogger(__name__)
_LONGEST_BYTES: Final = 64 * 1024
_TOLD: Final = 400
"""Characters of a value in the journal and on the pages."""
_PATIENCE_S: Final = 1.0
"""A page waits so long for the final ack, and reads it among the acts after that."""


Command = Callable[[str, str, bytes], Awaitable[Ack]]
"""Gives control the command of a user (name, topic relative to the device, payload), and returns its final ack.

Raises TransientError or TimeoutError without one.
"""


Value = str | dict[str, Any] | None


def _never(_value: Value) -> bool:
    return False


def _always(_value: Value) -> bool:
    return True


def _of_order(value: Value) -> bool:
    # By default an order waits for a safe point of each line; a window may be open just now.
    return isinstance(value, dict) and value.get("activate", "changeover") != "changeover"


def _of_canary(value: Value) -> bool:
    # A promotion turns the line over, also one that comes by itself, which the configuration may have for its default.
    if isinstance(value, dict) and "value" not in value:
        return value.get("promote") != "ask"
    return (value.get("value") if isinstance(value, dict) else value) != "stop"


@dataclass(frozen=True)
class Act:
    """A kind of act: its least role, and the topic of its command, where `{line}` stands for the line."""

    role: Role
    topic: str
    stops_line: Callable[[Value], bool] = _never
    """Tells of what the request says whether a line may stand still for it; the user is asked before."""


ACTS: Final[dict[str, Act]] = {
    "product": Act("operator", "line/{line}/product/set", _always),
    "model": Act("operator", "line/{line}/model/set", _always),
    "prepare": Act("operator", "line/{line}/prepare"),
    "rollback": Act("operator", "cmd/rollback", _always),
    "acknowledge": Act("operator", "cmd/acknowledge"),
    "models": Act("admin", "models/set", _of_order),
    "cancel": Act("admin", "cmd/cancel"),
    "canary": Act("admin", "line/{line}/canary/set", _of_canary),
    "reload": Act("admin", "cmd/reload", _always),
}


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a request: which act, where, with what; `confirmed` once the user was asked."""

    act: str
    line: str | None = None
    value: Value = None
    confirmed: bool = False


class Acts:
    """Checks acts against the user's role, sends them to control, and notes them on the board."""

    def __init__(self, board: Board, command: Command) -> None:
        self._board: Final = board
        self._command: Final = command
        self._running: Final[set[asyncio.Task[Ack]]] = set()

    async def answer(self, request: Request, user: User | None) -> Response:
        """Answer with control's ack, or with `accepted` where the final one takes longer."""
        assert user is not None
        try:
            asked = await read_json(request, Asked, _LONGEST_BYTES)
            topic, content = _command(user, asked)
        except RefusedError as error:
            return refused(error.status, str(error))
        return await self._perform(user, asked, topic, content)

    async def _perform(self, user: User, asked: Asked, topic: str, content: dict[str, Any] | str) -> Response:
        id_ = f"web-{secrets.token_hex(6)}"
        if isinstance(content, dict):
            content = {"id": id_, **content}
        payload = content.encode() if isinstance(content, str) else msgspec.json.encode(content)
        value = _short(asked.value)
        _log.info("event=act user=%s act=%s line=%s value=%r id=%s", user.name, asked.act, asked.line, value, id_)
        told = {"user": user.name, "act": asked.act, "line": asked.line, "value": value}
        self._board.acted(id_, told)
        task = asyncio.ensure_future(self._final(user, topic, payload))
        self._running.add(task)  # because the loop itself keeps no task alive
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: self._board.answered(id_, msgspec.json.encode(done.result())))
        await asyncio.wait({task}, timeout=_PATIENCE_S)
        ack = task.result() if task.done() else Ack(id_, topic, "accepted")
        return Response(msgspec.json.encode(ack), media_type="application/json", headers={"cache-control": "no-store"})

    async def _final(self, user: User, topic: str, payload: bytes) -> Ack:
        try:
            return await self._command(user.name, topic, payload)
        except (TransientError, asyncio.TimeoutError) as error:
            return Ack(None, topic, "failed", "timeout", str(error) or None)


def _command(user: User, asked: Asked) -> tuple[str, dict[str, Any] | str]:
    """Return the topic and content of the command. Raises RefusedError."""
    act = ACTS.get(asked.act)
    if act is None:
        raise RefusedError(400, "not_understood")
    if not may(user, act.role):
        _log.warning("event=act_refused user=%s act=%s", user.name, asked.act)
        raise RefusedError(403, "role")
    content = _content(asked)
    needs_line = "{line}" in act.topic or asked.act == "rollback"
    has_good_line = is_id(asked.line) if asked.line else not needs_line
    if content is None or not has_good_line:
        raise RefusedError(400, "not_understood")
    if act.stops_line(asked.value) and not asked.confirmed:
        raise RefusedError(409, "ask")
    return act.topic.format(line=asked.line), content


def _short(value: Value) -> Value:
    """Return a value as journal and pages have it: a long one as the beginning of its text."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return value if len(text) <= _TOLD else f"{text[:_TOLD]}…"


def _content(asked: Asked) -> dict[str, Any] | str | None:
    """Return what the command says; None where the request does not have it."""
    value = asked.value
    match asked.act:
        case "product" | "model" | "prepare":
            return {"value": value} if isinstance(value, str) else None
        case "rollback":
            return {"line": asked.line}
        case "reload":
            return {}
        case "canary":  # any other text could be JSON that asks for more than it was confirmed for
            return value if isinstance(value, dict) or value in ("stop", "promote") else None
    return value if isinstance(value, dict) else None
