"""Contents of a scenario's files, and actions in their terms."""

import json
from pathlib import Path
from typing import Any

import msgspec

from agent.control.actions import (
    Action,
    Answer,
    AssignLine,
    DisconnectFor,
    PreloadLikely,
    PrepareModel,
    PublishEvent,
    PublishLive,
    PublishState,
    Reload,
    RequeryRetained,
    SetPublish,
)

MARGIN_S = 0.3


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a .jsonl file; empty lines and lines that begin with # are for people."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip() and not line.startswith("#")]


def differences(published: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str | None:
    """Say where what was published leaves what was expected; only the topics and fields that are named count."""
    expected = list(expected)
    watched = expected.pop(0)["topics"] if expected and "topics" in expected[0] else []
    topics = {one["topic"] for one in expected} | set(watched)
    seen = [one for one in published if one["topic"] in topics]
    for number, (is_, should) in enumerate(zip(seen, expected, strict=False), 1):
        if not _fits(is_, should):
            return f"line {number}: expected {should}\n  came {is_}\n  after {seen[: number - 1][-3:]}"
    if len(seen) != len(expected):
        odd = seen[len(expected) :] or expected[len(seen) :]
        return f"{len(seen)} came, {len(expected)} expected; the odd ones: {odd}"
    return None


def _fits(is_: Any, should: Any, name: str = "") -> bool:  # noqa: ANN401 - JSON is any of its types
    if name == "t":
        low, high = should if isinstance(should, list) else (should - 0.001, should + MARGIN_S)
        return bool(low <= is_ <= high)
    if isinstance(should, dict):
        return isinstance(is_, dict) and all(
            key in is_ and _fits(is_[key], value, key) for key, value in should.items()
        )
    return bool(is_ == should)


def as_line(action: Action) -> dict[str, Any] | None:
    """Return an action as one line of `expected.jsonl`; what is no message has a word in angle brackets for a topic."""
    match action:
        case PublishState():
            return {"topic": action.topic, "payload": _content(action.payload)}
        case PublishLive():
            return {"topic": f"line/{action.line}/live", "payload": action.value}
        case PublishEvent():
            return {"topic": action.topic, "payload": msgspec.to_builtins(action.payload)}
        case Answer():
            reply = {"reply": action.reply.topic} if action.reply else {}
            return {"topic": "ack", "payload": msgspec.to_builtins(action.ack), **reply}
        case _:
            return _done(action)


def _done(action: Action) -> dict[str, Any] | None:
    match action:
        case AssignLine():
            said = {"topic": "<assign>", "line": action.line, "model": action.model.reference}
        case PrepareModel():
            model, hold_s = action.model.reference, round(action.hold_s)
            return {"topic": "<prepare>", "line": action.line, "model": model, "hold_s": hold_s}
        case PreloadLikely():
            return {"topic": "<preload>", "models": [model.reference for model in action.models]}
        case SetPublish():
            return {"topic": "<publish>", "stream": action.stream, "publish": action.publish}
        case DisconnectFor():
            return {"topic": "<hold>", "seconds": action.seconds}
        case RequeryRetained():
            said = {"topic": "<probe>", "filter": action.filter_}
        case _:
            return {"topic": "<reload>"} if isinstance(action, Reload) else None
    return said


def _content(payload: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    text = payload.decode()
    return json.loads(text) if text[:1] in {"{", "["} else text
