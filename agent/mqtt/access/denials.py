"""Finds the packet on which a broker closes the connection without a reason, and no longer sends it for a while.

All times are of time.monotonic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.mqtt.access.overflows import Overflows

_STRIKES: Final = 3
"""Number of closes that leave a packet unanswered before it is left out; before the last, packets go one by one."""
_SUSPICIOUS: Final = 2
_SPAN_S: Final = 10.0
"""Shortest time over which these closes must spread, because a broker that starts or is busy closes on any packet."""
_LEFT_OUT_S: Final = 600.0
_VITAL_LEFT_OUT_S: Final = 10.0
"""Time for which `ready` and `status` are left out; short, because no line runs without them."""
_SUSPECTED_S: Final = 600.0
"""Time after the last close when suspicions are forgotten, because most closes have other reasons."""
_MOST: Final = 256


@dataclass(frozen=True)
class Unanswered:
    """A packet that the broker had not answered when it closed the connection."""

    packet: str
    size_bytes: int = 0
    has_answer: bool = True
    """False at QoS 0, where no answer comes."""


@dataclass
class _Strikes:
    count: int
    first_s: float


@dataclass(frozen=True)
class _LeftOut:
    size_bytes: int
    until_s: float


UNSUBSCRIBE: Final = "UNSUBSCRIBE"
"""The label of all UNSUBSCRIBE packets, because a broker that closes on one closes on each."""


def subscribe(filter_: str) -> str:
    """Return the label of a SUBSCRIBE packet, as `Denials` records it."""
    return f"SUBSCRIBE {filter_}"


def publish(topic: str) -> str:
    """Return the label of a PUBLISH packet, as `Denials` records it."""
    return f"PUBLISH {topic}"


class Denials:
    """Record of packets on which the broker may have closed; it outlives connections. For one thread.

    While `is_careful`, packets go one by one, so that the packet that causes a close is alone. Of a topic, only
    messages at least as large as the suspicious one are left out at first; all of them after one more close. What is
    left out is tried again after a time, until it is answered; then one close is enough to leave it out again.
    """

    def __init__(self) -> None:
        self.has_wildcards = True
        self.is_careful = False
        self.overflows: Final = Overflows()
        self._closes = 0
        self._strikes: Final[dict[str, _Strikes]] = {}
        self._struck_s = 0.0
        self._left_out: Final[dict[str, _LeftOut]] = {}
        self._no_wildcards_until_s = 0.0

    @property
    def detail(self) -> str | None:
        """Description of the packets left out that nothing replaces; None without any."""
        packets = [packet for packet in self._left_out if not _is_replaced(packet)]
        return f"the broker closes the connection on {', '.join(packets[:5])}: left out" if packets else None

    def connecting(self, now_s: float) -> None:
        """Allow wildcards again after a time; called before each connect. Until then exact topics deliver as well."""
        if now_s >= self._no_wildcards_until_s:
            self.has_wildcards = True

    def takes_no_wildcards(self, now_s: float) -> None:
        """Record that the broker refuses wildcard subscriptions."""
        self.has_wildcards = False
        self._no_wildcards_until_s = now_s + _LEFT_OUT_S

    def closed(self, unanswered: Sequence[Unanswered], now_s: float) -> bool:
        """Record a close without a reason; return True where one of the `unanswered` packets is now left out.

        `unanswered`: packets without an answer, the oldest first.
        """
        suspects = _suspects(unanswered)
        if now_s >= self._struck_s + _SUSPECTED_S:
            self._strikes.clear()
        self._struck_s = now_s
        # an answer may be lost with the connection, so what waited behind counts too; only a suspect is left out
        for one in unanswered[-_MOST:]:
            if one.packet in self._strikes or len(self._strikes) < _MOST:
                self._strikes.setdefault(one.packet, _Strikes(0, now_s)).count += 1
        was_careful = self.is_careful
        self._closes += bool(suspects)
        self.is_careful = self._closes >= _SUSPICIOUS or self._is_suspicious
        # a limit is proven by the larger ones, and each smaller one would cost a connection
        known = next((one for one in suspects if one.packet in self._left_out), None)
        if known is not None:
            self._leave_out(known, now_s)
            return True
        # of equals the largest: a limit is the commoner reason, and `live` goes out beside everything
        found = max(suspects, key=lambda one: (self._count(one.packet), one.size_bytes), default=None)
        if found is None or not was_careful or self._count(found.packet) < _STRIKES:
            return False
        if now_s - self._strikes[found.packet].first_s < _SPAN_S:
            return False
        self._leave_out(found, now_s)
        return True

    def passed(self, packet: str, size_bytes: int = 0) -> None:
        """Record that the broker answered a packet, so it did not close on it."""
        self._strikes.pop(packet, None)
        if packet in self._left_out and size_bytes >= self._left_out[packet].size_bytes:
            del self._left_out[packet]

    def steady(self, now_s: float) -> None:
        """Record a stable connection; packets that it has not carried stay under suspicion."""
        self._closes = 0
        self.is_careful = self._is_suspicious
        for packet in [one for one, left in self._left_out.items() if now_s >= left.until_s + _SUSPECTED_S]:
            del self._left_out[packet]

    @property
    def _is_suspicious(self) -> bool:
        return any(strikes.count >= _SUSPICIOUS for strikes in self._strikes.values())

    def refuses(self, packet: str, now_s: float, size_bytes: int = 0) -> bool:
        """Return True where a packet of this size is not to be sent now."""
        left = self._left_out.get(packet)
        return left is not None and now_s < left.until_s and size_bytes >= left.size_bytes

    def _count(self, packet: str) -> int:
        return self._strikes[packet].count if packet in self._strikes else 0

    def _leave_out(self, found: Unanswered, now_s: float) -> None:
        known = self._left_out.get(found.packet)
        # tried again, it proves the same limit; a smaller one proves that the limit is lower
        size_bytes = found.size_bytes if known is None else known.size_bytes
        if found.size_bytes < size_bytes:
            size_bytes = 0
        until_s = now_s + (_VITAL_LEFT_OUT_S if _is_vital(found.packet) else _LEFT_OUT_S)
        self._left_out[found.packet] = _LeftOut(size_bytes, until_s)
        self._strikes.pop(found.packet, None)
        if _is_replaced(found.packet):
            self.takes_no_wildcards(now_s)


def _suspects(unanswered: Sequence[Unanswered]) -> list[Unanswered]:
    """Return the packets on which the broker may have closed: all up to the first that would have been answered.

    It works in order, so it closed on that one or on a QoS 0 packet before it.
    """
    first = next((place for place, one in enumerate(unanswered) if one.has_answer), len(unanswered))
    return list(unanswered[: first + 1][-_MOST:])


def _is_replaced(packet: str) -> bool:
    """Return True for a wildcard subscription, which subscriptions to exact topics can replace."""
    return packet.startswith("SUBSCRIBE") and ("+" in packet or "#" in packet)


def _is_vital(packet: str) -> bool:
    """Return True for a message with a line's `ready` or the device's `status`."""
    levels = packet.split("/")
    is_ready = levels[-1] == "ready" and levels[-3:-2] == ["line"]
    return packet.startswith("PUBLISH") and (is_ready or (levels[-1] == "status" and levels[-3:-2] != ["stream"]))
