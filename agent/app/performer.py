"""Carries out what was decided, in order: to the broker, to the worker, to the disk."""

from collections.abc import Callable
from typing import Final

import msgspec

from agent.control.actions import (
    Action,
    Answer,
    AssignLine,
    Probe,
    PublishEvent,
    PublishLive,
    PublishState,
    Remember,
)
from agent.messages.children import Assign
from agent.mqtt.client import Link
from agent.mqtt.publisher import Publisher
from agent.mqtt.topics import Topics


class Performer:
    """Knows where each action goes; decides nothing."""

    def __init__(
        self,
        topics: Topics,
        publisher: Publisher,
        link: Link,
        assign: Callable[[Assign], object],
        remember: Callable[[], None],
    ) -> None:
        self._topics: Final = topics
        self._publisher: Final = publisher
        self._link: Final = link
        self._assign: Final = assign
        self._remember: Final = remember

    def perform(self, actions: list[Action]) -> None:
        """Carry out `actions`, in their order."""
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case PublishState():
                self._publisher.send_state(f"{self._topics.base}/{action.topic}", action.payload)
            case PublishLive():
                self._publisher.send_live(self._topics.of_line(action.line, "live"), action.value.encode())
            case PublishEvent():
                topic = f"{self._topics.base}/{action.topic}"
                self._publisher.send_event(topic, msgspec.json.encode(action.payload))
            case Answer():
                self._answer(action)
            case AssignLine():
                self._assign(Assign(action.line, action.change, action.model))
            case Probe():
                self._link.subscribe([action.filter_])
            case Remember():
                self._remember()

    def _answer(self, action: Answer) -> None:
        payload, reply = msgspec.json.encode(action.ack), action.reply
        if reply is not None and self._topics.may_answer(reply.topic):
            self._publisher.send_event(reply.topic, payload, reply.correlation)
        else:
            self._publisher.send_event(self._topics.of_device("ack"), payload)
