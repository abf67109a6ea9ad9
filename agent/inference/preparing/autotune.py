"""Measures whether an artifact answers more pictures a second with one inference at a time or with two at once."""

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec.structs import replace

from agent.inference.artifacts.profile import Profile
from agent.inference.backends.detector import Detector
from agent.inference.memory import process_memory
from agent.inference.scheduling.idle_cpu import ticks
from agent.inference.validation import drawn_pictures
from agent.power_mode import power_mode

_LEAD: Final = 7
"""Rounds by which one side must lead: where three of four are right, one choice in 2,000 is wrong (decision 117)."""
_LONGEST_S: Final = 20.0
_ROUND_S: Final = 0.25
_ENOUGH: Final = 40  # inferences of one request in a round
_GAIN: Final = 1.1  # least ratio of throughput for which two requests at once are worth it
_MOST_ADDED_MS: Final = 25.0  # largest added latency of a picture, because a swap waits for two answers of its model
_OTHERS_SHARE: Final = 0.1
_LOOK_S: Final = 0.2
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")

Load = Callable[[Profile], Detector]


def measure(load: Load, base: Profile) -> Profile:
    """Return `base` with the number of requests that answers most pictures a second, and the measured figures.

    `load` loads the model with a given profile. Takes some seconds; the numbers of requests run in turn, so that a
    disturbance meets all. Returns `base` unchanged while other processes use the cores, because the figures would be
    wrong. Raises what `load` raises.
    """
    others = _Others()
    time.sleep(_LOOK_S)
    if others.share() > _OTHERS_SHARE:
        return base
    load(base).close()  # loads the runtime first, because its memory is not the model's
    others = _Others()
    ways: list[_Way] = []
    try:
        ways.extend(_Way(load, replace(base, requests=requests)) for requests in _counts())
        chosen = _best(*ways)
        return base if others.share() > _OTHERS_SHARE else chosen.profile()
    finally:
        for way in ways:
            way.close()


def _best(alone: "_Way", together: "_Way | None" = None) -> "_Way":
    """Measure both ways in turn until the better one is certain."""
    until_s = time.monotonic() + _LONGEST_S
    votes: list[bool] = []
    while (pays_off := verdict(votes, is_over=time.monotonic() > until_s)) is None:
        alone_ms = alone.run()
        votes.append(together is not None and is_worth(alone_ms, together.run(), together.requests))
    return together if together is not None and pays_off else alone


def verdict(votes: list[bool], *, is_over: bool) -> bool | None:
    """Return whether more requests pay off, by each round's vote; None while more rounds are needed.

    What is uncertain when time is over is decided for one request, and at once where rounds take so long that few are
    done: these agree.
    """
    lead = 2 * sum(votes) - len(votes)
    if abs(lead) >= _LEAD:
        return lead > 0
    return len(votes) == lead > 0 if is_over and votes else None


def is_worth(alone_ms: float, together_ms: float, requests: int) -> bool:
    """Return True where `requests` inferences at once pay off, by the times for one picture with them and alone."""
    added_ms = requests * together_ms - alone_ms
    return alone_ms >= _GAIN * together_ms and added_ms <= _MOST_ADDED_MS


def _counts() -> tuple[int, ...]:
    return (1, 2) if len(os.sched_getaffinity(0)) > 1 else (1,)


class _Way:
    """A model loaded with one profile, and its measured times."""

    def __init__(self, load: Load, profile: Profile) -> None:
        process_memory.trim()
        before_bytes, began_s = process_memory.process_bytes(), time.monotonic()
        self._model: Final = load(profile)
        loaded_s = time.monotonic()
        picture = drawn_pictures.blank(self._model.imgsz)
        self._waiting: Final = [self._model.prepare(picture) for _ in range(profile.requests)]
        self._threads: Final = ThreadPoolExecutor(profile.requests)
        self._answer(1)
        warm_s = time.monotonic()
        process_memory.trim()
        self._profile: Final = replace(
            profile,
            load_ms=round((loaded_s - began_s) * 1000, 1),
            warmup_ms=round((warm_s - loaded_s) * 1000, 1),
            bytes=max(0, process_memory.process_bytes() - before_bytes),
            power_mode=power_mode(),
        )
        self._rounds_ms: Final[list[float]] = []

    @property
    def requests(self) -> int:
        """Number of pictures that the model infers at once."""
        return self._profile.requests

    def run(self) -> float:
        """Measure one round of inferences; return the time from one answer to the next in ms."""
        began_s = time.monotonic()
        count = self._answer(_ENOUGH)
        self._rounds_ms.append((time.monotonic() - began_s) * 1000 / count)
        return self._rounds_ms[-1]

    def profile(self) -> Profile:
        """Return the runtime options of this way, with the times and memory that were measured with them."""
        return replace(self._profile, inference_ms=round(statistics.median(self._rounds_ms), 2))

    def close(self) -> None:
        """Unload the model."""
        self._threads.shutdown()
        self._waiting.clear()
        self._model.close()

    def _answer(self, most: int) -> int:
        """Keep every request busy for one round; return the number of answered pictures."""
        until_s = time.monotonic() + _ROUND_S

        def answer(at: int) -> int:
            for done in range(1, most + 1):
                self._waiting[at].request.run()
                if time.monotonic() > until_s:
                    return done
            return most

        return sum(self._threads.map(answer, range(len(self._waiting))))


class _Others:
    """Meter of the CPU time that other processes use, from its construction on."""

    def __init__(self) -> None:
        self._began: Final = (time.monotonic(), _busy_s(), time.process_time())

    def share(self) -> float:
        began_s, busy_s, own_s = self._began
        taken_s = max(0.0, (_busy_s() - busy_s) - (time.process_time() - own_s))
        return taken_s / ((time.monotonic() - began_s) * (os.cpu_count() or 1))


def _busy_s() -> float:
    """Return the busy time of all cores together since the device started, in seconds; 0 where it is unknown."""
    idle, whole = ticks() or (0, 0)
    return (whole - idle) / _TICKS_A_SECOND
