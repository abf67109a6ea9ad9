"""Finds the packet on which a broker closes the connection without a reason, and leaves it out.

Times are time.monotonic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.mqtt.access.overflows import Overflows

_STRIKES: Final = 3
"""Number of closes without an answer to a packet, after which it is left out; at the last one it must be alone."""
_SUSPICIOUS: Final = 2
_LEFT_OUT_S: Final = 600.0
_SUSPECTED_S: Final = 600.0
"""A strike is forgotten this long after the last, because most closes have other reasons."""
_MOST: Final = 256


@dataclass(frozen=True)
class Unanswered:
    """A packet that the broker had not answered when it closed the connection."""

    packet: str
    size_bytes: int = 0
    has_answer: bool = True
    """False at QoS 0, where no answer comes."""


def subscribe(filter_: str) -> str:
    """Return the label of a SUBSCRIBE packet, as `Denials` records it."""
    return f"SUBSCRIBE {filter_}"


def publish(topic: str) -> str:
    """Return the label of a PUBLISH packet, as `Denials` records it."""
    return f"PUBLISH {topic}"


class Denials:
    """Record of suspicious packets; it outlives connections, and is for one thread.

    While `is_careful`, packets go one by one, so that the packet that causes a close is alone. Of a topic, only
    messages at least as large as the suspicious one are left out at first; all of them after one more close.
    """

    def __init__(self) -> None:
        self.has_wildcards = True
        self.is_careful = False
        self.overflows: Final = Overflows()
        self._closes = 0
        self._strikes: Final[dict[str, int]] = {}
        self._struck_s = 0.0
        self._left_out: Final[dict[str, int]] = {}
        self._until_s = 0.0

    @property
    def detail(self) -> str | None:
        """Description of packets left out without replacement; None without any."""
        packets = [packet for packet in self._left_out if not _is_replaced(packet)]
        return f"the broker closes the connection on {', '.join(packets[:5])}: left out" if packets else None

    def connecting(self, now_s: float) -> None:
        """Forget old records, because rights may have been granted since."""
        if now_s >= self._until_s and (self._left_out or not self.has_wildcards):
            self._left_out.clear()
            self._strikes.clear()
            self.has_wildcards, self.is_careful, self._closes = True, False, 0

    def takes_no_wildcards(self, now_s: float) -> None:
        """Record that the broker refuses wildcard subscriptions."""
        self.has_wildcards = False
        self._until_s = now_s + _LEFT_OUT_S

    def closed(self, unanswered: Sequence[Unanswered], now_s: float) -> bool:
        """Record a close without a reason and the unanswered packets, oldest first; True: one is left out now."""
        suspects = _suspects(unanswered)
        if now_s >= self._struck_s + _SUSPECTED_S:
            self._strikes.clear()
        self._struck_s = now_s
        # an answer may be lost with the connection, so what waited behind counts too; only a suspect is left out
        for one in unanswered[-_MOST:]:
            if one.packet in self._strikes or len(self._strikes) < _MOST:
                self._strikes[one.packet] = self._strikes.get(one.packet, 0) + 1
        was_careful = self.is_careful
        self._closes += bool(suspects)
        self.is_careful = self._closes >= _SUSPICIOUS or self._is_suspicious
        # a limit is proven by the larger ones, and each smaller one would cost a connection
        known = next((one for one in suspects if one.packet in self._left_out), None)
        if known is not None:
            self._leave_out(known)
            self._until_s = now_s + _LEFT_OUT_S
            return True
        # of equals the largest: a limit is the commoner reason, and `live` goes out beside everything
        found = max(suspects, key=lambda one: (self._strikes.get(one.packet, 0), one.size_bytes), default=None)
        if found is None or not was_careful or self._strikes.get(found.packet, 0) < _STRIKES:
            return False
        self._leave_out(found)
        self._until_s = now_s + _LEFT_OUT_S
        return True

    def passed(self, packet: str) -> None:
        """Record that the broker answered a packet, so it did not close on it."""
        self._strikes.pop(packet, None)

    def steady(self) -> None:
        """Record a stable connection; packets that it has not carried stay under suspicion."""
        self._closes = 0
        self.is_careful = self._is_suspicious

    @property
    def _is_suspicious(self) -> bool:
        return any(strikes >= _SUSPICIOUS for strikes in self._strikes.values())

    def refuses(self, packet: str, size_bytes: int = 0) -> bool:
        """Return True where a packet is left out."""
        return packet in self._left_out and size_bytes >= self._left_out[packet]

    def _leave_out(self, found: Unanswered) -> None:
        is_known = found.packet in self._left_out
        self._left_out[found.packet] = 0 if is_known else found.size_bytes
        self._strikes.pop(found.packet, None)
        if _is_replaced(found.packet):
            self.has_wildcards = False


def _suspects(unanswered: Sequence[Unanswered]) -> list[Unanswered]:
    """Return packets up to the first unanswered one, because a broker works in order and closed on one of them."""
    first = next((place for place, one in enumerate(unanswered) if one.has_answer), len(unanswered))
    return list(unanswered[: first + 1][-_MOST:])


def _is_replaced(packet: str) -> bool:
    """Return True where exact topics replace the packet."""
    return packet.startswith("SUBSCRIBE") and ("+" in packet or "#" in packet)
