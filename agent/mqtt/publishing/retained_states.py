"""Retained values, and those that the broker has not accepted yet. All times are of time.monotonic."""

from typing import Final

from agent.messages.topics import Topics
from agent.mqtt.endpoint.connect_errors import Outcome
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.publishing.retry_backoff import Retries

READY_ZERO_S: Final = 5.0
"""Time after which an unaccepted `ready` 0 drops the link, so that the broker sends the will."""
_NOTHING: Final = b"0"


class Standing:
    """Selector of retained values to send; `status` goes last, once every `ready` is accepted."""

    def __init__(self, topics: Topics, retries: Retries) -> None:
        self.truth: Final[dict[str, bytes]] = {}
        self._topics: Final = topics
        self._retries: Final = retries
        self._owed_since_s: Final[dict[str, float]] = {}
        self._newest: Final[dict[str, OutgoingMessage]] = {}
        self._refused: Final[set[str]] = set()
        self._status_waits = False
        self._is_will_out = False

    def begin(self, now_s: float, *, is_fresh: bool) -> list[OutgoingMessage]:
        """Return all retained values, to be sent once more, every `ready` first.

        `is_fresh` is True on a new connection, where answers that the last one owed are no longer waited for.
        """
        if is_fresh:
            self._owed_since_s.clear()
        self._newest.clear()
        self._refused.clear()
        self._status_waits = self._topics.status in self.truth
        topics = sorted(self.truth, key=lambda topic: not self._topics.is_ready(topic))
        for topic in topics:
            self._owed_since_s.setdefault(topic, now_s)
        return [self._say(topic) for topic in topics if topic != self._topics.status]

    def changed(self, topic: str, now_s: float) -> OutgoingMessage:
        """Return the message for a value that was just set."""
        self._owed_since_s[topic] = now_s
        self._refused.discard(topic)
        return self._say(topic)

    def answered(self, message: OutgoingMessage, outcome: Outcome) -> None:
        """Record the broker's answer; only that to the newest message of a topic counts."""
        topic = message.topic
        # by identity, because a value may be in flight twice, with another one between
        if self._newest.get(topic) is not message or topic not in self._owed_since_s:
            return
        if outcome in {Outcome.LATER, Outcome.DENIED}:
            self._refused.add(topic)
            return
        del self._owed_since_s[topic]
        if topic == self._topics.status and outcome is Outcome.ACCEPTED:
            self._is_will_out = False

    def due(self, now_s: float) -> list[OutgoingMessage]:
        """Return refused values that may be tried again, and `status` once it may go."""
        due: list[OutgoingMessage] = []
        if self._refused and not self._retries.is_held(now_s):
            again = [topic for topic in self._refused if not self._retries.is_denied(topic, now_s)]
            self._refused.difference_update(again)
            due += [self._say(topic) for topic in sorted(again, key=lambda topic: not self._topics.is_ready(topic))]
        if self._status_waits and not any(map(self._topics.is_ready, self._owed_since_s)):
            self._status_waits = False
            due.append(self._say(self._topics.status))
        return due

    def overdue(self, now_s: float) -> str | None:
        """Return the topic of an overdue `ready` 0, only once, else None; the caller drops the link for the will."""
        for topic, since_s in self._owed_since_s.items():
            is_late = now_s - since_s > READY_ZERO_S
            if is_late and self._topics.is_ready(topic) and self.truth[topic] == _NOTHING and not self._is_will_out:
                self._is_will_out = True
                return topic
        return None

    def _say(self, topic: str) -> OutgoingMessage:
        """Return a new message with the present value; answers to earlier ones no longer count."""
        message = self._newest[topic] = OutgoingMessage(topic, self.truth[topic], retain=True)
        return message
