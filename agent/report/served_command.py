"""Entry of `changeover models log`: which model served a line when, why, and with what result."""

from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import pairwise

import msgspec

from agent.messages.errors import MistakeError
from agent.messages.payloads import Cause
from agent.messages.records import SERVED, Served
from agent.messages.texts.printable import printable
from agent.settings import Settings


def records_of(settings: Settings, line: str) -> list[Served]:
    """Return a line's records, the oldest first. Raises MistakeError for an unknown line or an unreadable file."""
    if line not in settings.line:
        raise MistakeError(f"no line {line!r}; there are {', '.join(settings.line) or 'none'}")
    path = settings.device.state_dir / SERVED / f"{line}.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=list[Served])
        for one in found:
            _unix(one.at)
    except FileNotFoundError:
        return []
    except ValueError as error:  # of JSON, or of a text that is no time, such as a month of 13
        raise MistakeError(f"{path}: found no records of this version ({error})") from error
    return found


def readable(records: list[Served], now_unix_s: float) -> Iterator[str]:
    """Return a line of text without control characters for each record, the newest last."""
    return map(printable, _lines(records, now_unix_s))


def _lines(records: list[Served], now_unix_s: float) -> Iterator[str]:
    if not records:
        yield "no model has served this line yet"
    begins = [at for at, one in enumerate(records) if one.what == "serves"]
    ends = dict(pairwise(begins))
    for at, one in enumerate(records):
        if one.what != "serves":
            yield f"{one.at}  {_event(one)}"
            continue
        end_s = _unix(records[ends[at]].at) if at in ends else now_unix_s
        lasted = _duration(end_s - _unix(one.at))
        since = "for" if at in ends else "until now,"
        why = f"  {_because(one.cause)}" if one.cause is not None else ""
        product = f"  product {one.product}" if one.product is not None else ""
        yield f"{one.at}  {one.model or 'no model'}  {since} {lasted}{product}{why}"


def _event(one: Served) -> str:
    against = f" against {one.before}" if one.before else ""
    what = f"comparison of {one.model}{against}" if one.what == "comparison" else f"change to {one.model}"
    words = ": ".join(word for word in (one.reason, one.detail) if word)
    return f"  {what}: {one.result}" + (f" ({words})" if words else "")


def _because(cause: Cause) -> str:
    return f"by {cause.rule}" + (f" {cause.value}" if cause.value else "")


def _unix(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
