"""Weekly schedule windows, and the moments at which they change.

A window begins and ends at instants computed from its days, times and time zone. A window over midnight belongs to the
day it began on; equal `from` and `to` mean a whole day. A local time that occurs twice means the first; a skipped one
is moved behind the clock change. Where windows overlap, the later one in the list wins, separately for variant and
model.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agent.control.decoding.values import ValueRefusedError
from agent.messages.references import ModelReference
from agent.settings import ScheduleRule, findings

MAX_RULES: Final = 256
_AHEAD: Final = timedelta(days=9)
"""Nine days, because weekly rules repeat after seven and a window may reach into the next day."""


@dataclass(frozen=True)
class Window:
    """The schedule rules that hold at one moment; None where none does."""

    variant_rule: ScheduleRule | None = None
    model_rule: ScheduleRule | None = None

    @property
    def variant(self) -> str | None:
        """Variant that the schedule asks for; None where no rule names one."""
        return self.variant_rule.variant if self.variant_rule is not None else None

    @property
    def model(self) -> ModelReference | None:
        """Model that the schedule asks for; None where no rule names one."""
        return self.model_rule.model if self.model_rule is not None else None


NO_WINDOW: Final = Window()


@dataclass(frozen=True)
class Timetable:
    """Windows of one line in time order: `windows[i]` holds from `starts_s[i]` (Unix time)."""

    starts_s: tuple[float, ...] = (0.0,)
    windows: tuple[Window, ...] = (NO_WINDOW,)

    def at(self, unix_s: float) -> Window:
        """Return the window that holds at a moment."""
        return self.windows[max(bisect_right(self.starts_s, unix_s) - 1, 0)]

    def after(self, unix_s: float) -> Iterator[tuple[float, Window]]:
        """Yield later windows with their start times, the nearest first."""
        index = bisect_right(self.starts_s, unix_s)
        yield from zip(self.starts_s[index:], self.windows[index:], strict=True)


NO_TIMETABLE: Final = Timetable()


def lay_out(rules: Sequence[ScheduleRule], line: str, unix_s: float) -> Timetable:
    """Return a line's timetable from two days before `unix_s` to nine days after it."""
    spans = [
        _Span(start_s, end_s, order, rule)
        for order, rule in enumerate(rules)
        if rule.line == line
        for start_s, end_s in _spans(rule, unix_s)
    ]
    starts_s: list[float] = [0.0]
    windows: list[Window] = [NO_WINDOW]
    for at_s, window in _sweep(sorted(spans, key=lambda span: span.start_s)):
        if window != windows[-1]:
            starts_s.append(at_s)
            windows.append(window)
    return Timetable(tuple(starts_s), tuple(windows))


def in_words(rule: ScheduleRule) -> str:
    """Format a rule's times for people: `22:00-06:00 Europe/Berlin`."""
    return f"{rule.from_:%H:%M}-{rule.to:%H:%M} {rule.timezone}"


def parse(content: object, lines: Sequence[str]) -> tuple[ScheduleRule, ...]:
    """Parse the JSON list of `schedule/set`. Raises ValueRefusedError that names the rule."""
    if not isinstance(content, list):
        raise ValueRefusedError("not_understood", 'expected a JSON list of rules, or "config"')
    if len(content) > MAX_RULES:
        raise ValueRefusedError("not_understood", f"{len(content)} rules; a schedule has at most {MAX_RULES}")
    return tuple(_rule(number, one, lines) for number, one in enumerate(content, 1))


def _rule(number: int, content: object, lines: Sequence[str]) -> ScheduleRule:
    try:
        rule = ScheduleRule.model_validate(content)
    except ValidationError as error:
        path, found, expected = findings(error, ScheduleRule)[0]
        where = ".".join(str(part) for part in path) or "the rule"
        detail = f"rule {number}: {where}: found {found}, expected {expected}"[:300]
        raise ValueRefusedError("not_understood", detail) from None
    if rule.line not in lines:
        detail = f"rule {number}: line: found {rule.line[:64]!r}, expected a configured line"
        raise ValueRefusedError("unknown_line", detail)
    if (rule.variant is None) == (rule.model is None):
        raise ValueRefusedError("not_understood", f"rule {number}: expected one of variant and model")
    return rule


def _spans(rule: ScheduleRule, unix_s: float) -> Iterator[tuple[float, float]]:
    zone = ZoneInfo(rule.timezone)
    today = datetime.fromtimestamp(unix_s, timezone.utc).astimezone(zone).date()
    first, last = today - timedelta(days=2), today + _AHEAD
    for offset in range((last - first).days):
        day = first + timedelta(days=offset)
        if day.weekday() not in rule.days:
            continue
        end_day = day if rule.from_ < rule.to else day + timedelta(days=1)
        start_s, end_s = _instant(day, rule.from_, zone), _instant(end_day, rule.to, zone)
        if start_s < end_s:
            yield start_s, end_s


@dataclass(frozen=True)
class _Span:
    start_s: float
    end_s: float
    order: int
    rule: ScheduleRule


def _sweep(spans: Sequence[_Span]) -> Iterator[tuple[float, Window]]:
    """Yield the window after each start and end; `spans` must be sorted by start."""
    variants, models = _Latest(), _Latest()
    begun = 0
    for at_s in sorted({moment for span in spans for moment in (span.start_s, span.end_s)}):
        while begun < len(spans) and spans[begun].start_s <= at_s:
            (models if spans[begun].rule.model is not None else variants).add(spans[begun])
            begun += 1
        yield at_s, Window(variants.at(at_s), models.at(at_s))


class _Latest:
    """Selector of the span latest in the list among those that hold; queried in ascending time."""

    def __init__(self) -> None:
        self._heap: Final[list[tuple[int, float, ScheduleRule]]] = []

    def add(self, span: _Span) -> None:
        heapq.heappush(self._heap, (-span.order, span.end_s, span.rule))

    def at(self, at_s: float) -> ScheduleRule | None:
        while self._heap and self._heap[0][1] <= at_s:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None


def _instant(day: date, clock: time, zone: ZoneInfo) -> float:
    return datetime.combine(day, clock, zone).timestamp()
