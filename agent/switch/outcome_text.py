"""Texts about a request's outcome: lines for people, JSON for programs, and the error."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agent.messages.errors import ChangeoverError, MistakeError, Reason, TransientError
from agent.messages.payloads import Switch
from agent.messages.texts.printable import printable
from agent.switch.progress import Progress
from agent.switch.request import Request

_MAY_PASS: Final[frozenset[Reason]] = frozenset(
    {"expired", "superseded", "load_timeout", "no_memory", "worker_lost", "timeout"}
)
"""Reasons of failure for which a retry may help; for the others, somebody has to change something."""


def readable(request: Request, progress: Progress) -> Iterator[str]:
    """Yield the changeover report line by line; the first line states the result."""
    yield printable(_headline(request, progress))
    report = progress.report
    if report is None:
        yield printable(f"  model    {progress.model or 'none'}")
        return
    change = f"{report.to or report.from_ or 'none'}"
    if report.to is not None and report.from_ != report.to:
        change += f", was {report.from_ or 'none'}"
    yield printable(f"  model    {change}")
    if report.result == "switched":
        yield f"  took     {_ms(report.total_ms)} in all: load {_ms(report.load_ms)}, warm-up {_ms(report.warmup_ms)}"
        yield printable(f"  how      {report.residency or '-'}, {report.order or '-'}")
        yield f"  blind    {_ms(report.blind_ms)}, frames lost {report.frames_lost}"
    yield printable(f"  cause    {_cause(report)}")


def as_json(request: Request, progress: Progress) -> str:
    """Return one line of JSON: the answer, the present state, and the device's report if there is one."""
    ack = progress.ack
    said: dict[str, Any] = {
        "line": request.line,
        "asked": request.text,
        "id": request.id,
        "result": ack.result if ack else None,
        "reason": ack.reason if ack else None,
        "detail": ack.detail if ack else None,
        "ready": progress.ready,
        "model": progress.model,
        "switch": progress.report,
    }
    return msgspec.json.encode(said).decode()


def error_of(request: Request, progress: Progress) -> ChangeoverError | None:
    """Return the error of a settled request that failed, else None; its type says whether a retry may help."""
    ack = progress.ack
    if ack is None or progress.is_reached:
        return None
    detail = f": {ack.detail}" if ack.detail else ""
    if progress.is_overridden:
        give_back = f"`changeover switch {request.line} auto --model` gives the choice back"
        return MistakeError(printable(f"{request.line}: overridden{detail}; {give_back}"))
    kind = TransientError if ack.reason in _MAY_PASS else MistakeError
    return kind(printable(f"{request.line}: {ack.result}, {ack.reason}{detail}"))


def late(request: Request, progress: Progress, timeout_s: float) -> TransientError:
    """Return the error of a request that is unsettled after `timeout_s`."""
    if progress.ack is None:
        return TransientError(f"{request.line}: no answer within {timeout_s:g} s, though its status is online")
    words = [f"ready {progress.ready or '-'}", f"phase {progress.phase or '-'}", f"model {progress.model or '-'}"]
    words += progress.troubles()
    wanted = "serving" if request.is_model else "ready for"
    return TransientError(
        printable(f"{request.line}: not {wanted} {request.text} within {timeout_s:g} s: {', '.join(words)}")
    )


def _headline(request: Request, progress: Progress) -> str:
    if not progress.is_reached:
        ack = progress.ack
        return f"{request.line}: {ack.result if ack else 'no answer'}"
    already = ", as it was already" if progress.ack is not None and progress.ack.result == "noop" else ""
    if not request.is_model:
        return f"{request.line}: ready for {request.text}{already}"
    what = "the choice is given back" if request.gives_back else f"{request.text} serves"
    return f"{request.line}: {what}{already}; ready {progress.ready or '-'}"


def _cause(report: Switch) -> str:
    cause = report.cause
    overrode = cause.overrode
    over = f", over {overrode.model} by {overrode.rule}" if not isinstance(overrode, msgspec.UnsetType) else ""
    return f"{cause.rule} {cause.value or ''}".rstrip() + over


def _ms(value_ms: float) -> str:
    return f"{value_ms:.1f} ms" if value_ms < 1000 else f"{value_ms / 1000:.2f} s"  # noqa: PLR2004 - a second
