"""How large a message is on the wire, and what a broker that says nothing does not take."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from agent.mqtt.link_settings import ProtocolVersion
from agent.mqtt.outgoing import Outgoing

_CLOSES: Final = 3
_SOON_S: Final = 2.0
"""A broker closes at once on what it does not take; what was sent longer before is not suspected."""
_MOST: Final = 256
_SEVEN_BITS: Final = 128


@dataclass(frozen=True)
class Sent:
    """A message on the wire that the broker has not shown to have read; `mid` 0 at QoS 0."""

    mid: int
    topic: str
    size_bytes: int
    sent_s: float


def packet_bytes(message: Outgoing, protocol: ProtocolVersion) -> int:
    """Return the length of a PUBLISH as it is encoded (MQTT 5.0, section 3.3), its fixed header included."""
    remaining = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + len(message.payload)
    if protocol == "5":
        properties = 0 if message.correlation is None else 3 + len(message.correlation)
        remaining += _variable_bytes(properties) + properties
    return 1 + _variable_bytes(remaining) + remaining


def _variable_bytes(number: int) -> int:
    count = 1
    while number >= _SEVEN_BITS:
        number //= _SEVEN_BITS
        count += 1
    return count


class Sizes:
    """Learns which messages a broker closes on: the largest that it had not answered, three times in a row.

    A message of that topic that is answered, of the same size or larger, clears it. For one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._sent: deque[Sent] = deque(maxlen=_MOST)
        self._closes: dict[str, int] = {}
        self._least: dict[str, int] = {}

    def is_set_aside(self, topic: str, size_bytes: int) -> bool:
        """Whether the link closed three times after a message of `topic` that was no larger."""
        return self._closes.get(topic, 0) >= _CLOSES and size_bytes >= self._least[topic]

    def sent(self, mid: int, topic: str, size_bytes: int) -> None:
        """Note what went on the wire; `mid` 0 at QoS 0."""
        self._sent.append(Sent(mid, topic, size_bytes, self._clock()))

    def answered(self, is_it: Callable[[Sent], bool]) -> None:
        """Note that the broker read the message of which `is_it` is true, and so all before it."""
        place = next((at for at, one in enumerate(self._sent) if is_it(one)), None)
        for _ in range(0 if place is None else place + 1):
            one = self._sent.popleft()
            if one.size_bytes >= self._least.get(one.topic, one.size_bytes):
                self._closes.pop(one.topic, None)
                self._least.pop(one.topic, None)

    def closed(self, *, by_broker: bool) -> str | None:
        """Note the connection's end. Return the topic that is set aside from now on, if there is a new one."""
        now_s = self._clock()
        suspects = [one for one in self._sent if now_s - one.sent_s <= _SOON_S]
        self._sent.clear()
        if not by_broker or not suspects:
            return None
        suspect = _largest(suspects)
        self._least[suspect.topic] = min(suspect.size_bytes, self._least.get(suspect.topic, suspect.size_bytes))
        self._closes[suspect.topic] = self._closes.get(suspect.topic, 0) + 1
        return suspect.topic if self._closes[suspect.topic] == _CLOSES else None


def _largest(sent: Iterable[Sent]) -> Sent:
    return max(sent, key=lambda one: one.size_bytes)
