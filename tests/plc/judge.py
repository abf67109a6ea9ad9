"""Judges by detections alone whether a belt ran unchecked; it knows nothing of `ready`, `live` or the block."""

import bisect
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chaos.wire import PUBLISH, Reader
from plc.controller import Run

RULE_S: Final = 3.0
_CONNECT_S: Final = 3.0
_NEXT_S: Final = 1.0
"""A line is checked while the frame that comes next is inferred by the product's model, and comes within this."""
_FRAME_S: Final = 0.2
"""A line that dies shows no further frame: whose that would have been is known to nobody, for the time of one frame."""
_CLOCKS_S: Final = 0.05
"""The device's clock does not jump as ours may, so that their times differ a little."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """Seconds over all belts; `longest_unchecked_s` is the longest that one ran on a line that was not checked."""

    ran_s: float = 0.0
    runs: int = 0
    beyond_s: float = 0.0
    at_connects_s: float = 0.0
    longest_unchecked_s: float = 0.0

    def plus(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.ran_s + other.ran_s,
            self.runs + other.runs,
            self.beyond_s + other.beyond_s,
            self.at_connects_s + other.at_connects_s,
            max(self.longest_unchecked_s, other.longest_unchecked_s),
        )


class Witness:
    """Hears what the agent sends, at its own end of the wire, whether or not a broker lives."""

    def __init__(self) -> None:
        self.detections = 0
        self._guard = threading.Lock()
        self._frames: dict[str, dict[float, str]] = defaultdict(dict)

    def tap(self) -> Callable[[bytes], None]:
        """Return what looks at one connection of the agent."""
        reader = Reader()

        def look(data: bytes) -> None:
            for kind, body, flags in reader.feed(data):
                message = reader.published(body, flags) if kind == PUBLISH else None
                if message is not None and message.key is not None:
                    self._note(json.loads(message.payload))

        return look

    def frames(self, line: str) -> list[tuple[float, str]]:
        """Return when each frame of a line was captured, and the letter of the model that inferred it, in order."""
        with self._guard:
            return sorted(self._frames[line].items())

    def _note(self, detections: "dict[str, object]") -> None:
        at_s = datetime.fromisoformat(str(detections["captured_at"]).replace("Z", "+00:00")).timestamp()
        objects = detections["objects"]
        assert isinstance(objects, list)
        assert objects, "the model of a test finds something in each picture"
        with self._guard:
            self.detections += 1
            # the label, not the name beside it: what inferred the frame betrays itself
            self._frames[str(detections["line"])][at_s] = str(objects[0]["label"])[0]


def checked(frames: Sequence[tuple[float, str]], letter: str) -> list[Span]:
    """Return the spans in which the next frame was the right model's; `frames` are in order of their capture."""
    spans = []
    before_s = float("-inf")
    for at_s, made_by in frames:
        if made_by == letter:
            spans.append((max(before_s - _CLOCKS_S, at_s - _NEXT_S), at_s))
        before_s = at_s
    return spans


def starts_of_the_dying(runs: Sequence[Run], frames: Sequence[tuple[float, str]]) -> list[Span]:
    """Return the time of one frame for each run that began right after the last frame before a silence."""
    times = [at_s for at_s, _ in frames] + [float("inf")]
    spans = []
    for run in runs:
        place = bisect.bisect_right(times, run.began_s)
        last_s = times[place - 1] if place else float("-inf")
        if run.began_s - last_s < _FRAME_S and times[place] - last_s > _NEXT_S:
            spans.append((last_s, last_s + _FRAME_S))
    return spans


def judge(
    runs: Sequence[Run], connects: Sequence[float], frames: Sequence[tuple[float, str]], letter_of: Callable[[str], str]
) -> Verdict:
    """Judge one belt by the frames of its line; `letter_of` gives the letter of a product's model."""
    verdict = Verdict()
    seen = {letter: checked(frames, letter) for letter in {letter_of(run.product) for run in runs}}
    for run in runs:
        spans = sorted([*seen[letter_of(run.product)], *starts_of_the_dying([run], frames)])
        beyond_s = longest_s = 0.0
        for (begin_s, end_s), since_s in _unchecked(run, spans):
            beyond_s += max(0.0, end_s - max(begin_s, since_s + RULE_S))
            longest_s = max(longest_s, end_s - begin_s)
        at_connect_s = _at_connect(run, connects, spans)
        verdict = verdict.plus(Verdict(run.ended_s - run.began_s, 1, beyond_s, at_connect_s, longest_s))
    return verdict


def _unchecked(run: Run, spans: Sequence[Span]) -> list[tuple[Span, float]]:
    """Return the parts of a run in which its line was not checked, each with when it last was."""
    place = max(0, bisect.bisect_right(spans, (run.began_s, float("inf"))) - 1)
    since_s = spans[place - 1][1] if place else float("-inf")
    found = []
    for begin_s, end_s in [*spans[place:], (float("inf"), float("inf"))]:
        part = (max(run.began_s, since_s), min(run.ended_s, begin_s))
        if part[0] < part[1]:
            found.append((part, since_s))
        since_s = end_s
        if end_s >= run.ended_s:
            break
    return found


def _at_connect(run: Run, connects: Sequence[float], spans: Sequence[Span]) -> float:
    """Return for how long a belt that started at a connect ran before its line was checked."""
    if not any(at_s <= run.began_s <= at_s + _CONNECT_S for at_s in connects):
        return 0.0
    parts = _unchecked(run, spans)
    if not parts or parts[0][0][0] > run.began_s or run.began_s - parts[0][1] < _NEXT_S:
        return 0.0
    return parts[0][0][1] - parts[0][0][0]
