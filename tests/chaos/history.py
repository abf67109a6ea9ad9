"""Record of the messages on the wire, and a verdict on losses, repeats and order."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

Key = tuple[str, str, int]
_NEAR_S: Final = 20.0


@dataclass(frozen=True)
class Sending:
    """One passage of a message: on which connection, and on which topic."""

    connection: int
    topic: str
    key: Key


@dataclass
class Verdict:
    """Numbers over all boots and streams."""

    messages: int = 0
    lost: list[Key] = field(default_factory=list)
    repeated: int = 0
    out_of_order: list[tuple[str, Key, Key]] = field(default_factory=list)

    @property
    def repeated_share(self) -> float:
        return self.repeated / max(1, self.messages)


class History:
    """Written by the proxy's thread, read by the test's."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._passed: list[Sending] = []
        self._acknowledged: Counter[Key] = Counter()
        self._first: list[Sending] = []
        self._passed_s: dict[Key, float] = {}
        self._happened: list[tuple[float, str]] = []

    def passed(self, sending: Sending) -> None:
        """Note a message that the agent sent, whether or not it reached the broker."""
        with self._guard:
            self._passed.append(sending)
            self._passed_s.setdefault(sending.key, time.monotonic())

    def happened(self, what: str) -> None:
        """Note a fault or a kill, which may explain a loss."""
        with self._guard:
            self._happened.append((time.monotonic(), what))

    def around(self, key: Key) -> list[str]:
        """Return what happened in the seconds around the first passage of a message; empty where it never passed."""
        with self._guard:
            if (passed_s := self._passed_s.get(key)) is None:
                return []
            near = [(at_s - passed_s, what) for at_s, what in self._happened if abs(at_s - passed_s) <= _NEAR_S]
        return [f"{after_s:+.3f} s: {what}" for after_s, what in near]

    def acknowledged(self, sending: Sending) -> None:
        """Note that the broker answered; whether the agent heard of it is another matter."""
        with self._guard:
            if not self._acknowledged[sending.key]:
                self._first.append(sending)
            self._acknowledged[sending.key] += 1

    def open(self) -> int:
        """Return how many messages are not acknowledged of those that must have existed."""
        return len(self.verdict().lost)

    def boots(self) -> list[str]:
        """Return the boots in the order in which they were first seen."""
        with self._guard:
            return list(dict.fromkeys(sending.key[0] for sending in self._passed))

    def verdict(self, without: str | None = None) -> Verdict:
        """Judge: of each boot and stream every seq up to the largest seen was acknowledged, once, in order by topic.

        `without` is a boot that is left out: the last one, whose end nobody waits for.
        """
        with self._guard:
            passed = [sending for sending in self._passed if sending.key[0] != without]
            first = [sending for sending in self._first if sending.key[0] != without]
            counts = Counter({key: count for key, count in self._acknowledged.items() if key[0] != without})
        largest: dict[tuple[str, str], int] = {}
        for sending in passed:
            boot, stream, seq = sending.key
            largest[boot, stream] = max(seq, largest.get((boot, stream), 0))
        everything = [(boot, stream, seq) for (boot, stream), top in largest.items() for seq in range(top + 1)]
        return Verdict(
            messages=len(everything),
            lost=[key for key in everything if not counts[key]],
            repeated=sum(count - 1 for count in counts.values() if count > 1),
            out_of_order=_out_of_order(first),
        )


def _out_of_order(first: list[Sending]) -> list[tuple[str, Key, Key]]:
    newest: dict[tuple[str, str], Key] = {}
    wrong = []
    for sending in first:
        before = newest.get((sending.topic, sending.key[0]))
        if before is not None and before[2] > sending.key[2]:
            wrong.append((sending.topic, before, sending.key))
        newest[sending.topic, sending.key[0]] = sending.key
    return wrong
