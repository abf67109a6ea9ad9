"""The event loop's end of the channel to control."""

import asyncio
import itertools
import logging
import secrets
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec

from agent.messages.children import Message
from agent.messages.errors import TransientError
from agent.messages.payloads import Ack
from agent.messages.web.control import CommandAnswered, Documents, DocumentsTaken, OperatorCommand
from agent.processes.child import Child
from agent.web.serving.documents import DocumentStore

_log: Final = logging.getLogger(__name__)
_COMMANDS: Final = 64
"""Commands that wait for their answer; a further one is refused."""
_RANDOM_BITS: Final = 48


class CrowdedError(TransientError):
    """Too many commands wait for control."""


class ControlLink:
    """Sends messages to control, and hands those that come to the loop's thread.

    Threading: everything but the pump's own thread belongs to the event loop. `send` may block while control does not
    read, which ends with control's watchdog.
    """

    def __init__(self, child: Child[Any], documents: DocumentStore) -> None:
        self._child: Final = child
        self._documents: Final = documents
        self._numbers: Final = itertools.count(secrets.randbits(_RANDOM_BITS))
        """Of commands; begins anywhere, so that an ack to an earlier web process answers nobody's command."""
        self._waiting: Final[dict[int, asyncio.Queue[Ack]]] = {}
        self._handlers: Final[list[Callable[[Message], None]]] = []

    def start(self) -> None:
        """Hand messages to the running event loop from now on."""
        loop = asyncio.get_running_loop()

        def pump() -> None:
            while True:
                loop.call_soon_threadsafe(self._take, self._child.inbox.get())

        threading.Thread(target=pump, name="control", daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message to control."""
        self._child.send(message)

    def add_handler(self, handler: Callable[[Message], None]) -> None:
        """Have `handler` take the messages that are neither documents nor answers to commands."""
        self._handlers.append(handler)

    async def command(self, user: str, topic: str, payload: bytes, timeout_s: float = 60.0) -> Ack:
        """Give a person's command, such as on `line/line-1/product/set`, and return its final ack.

        `topic` is one that the device hears (docs/mqtt.md), relative to the device; control checks and refuses it like
        any other. Raises CrowdedError, and TimeoutError where the final ack takes longer than `timeout_s`.
        """
        if len(self._waiting) >= _COMMANDS:
            raise CrowdedError("too many commands wait for their answer: try again")
        number = next(self._numbers)
        acks = self._waiting[number] = asyncio.Queue(4)
        try:
            self.send(OperatorCommand(number, user, topic, payload))
            return await asyncio.wait_for(_final(acks), timeout_s)
        finally:
            del self._waiting[number]

    def _take(self, message: Message) -> None:
        match message:
            case Documents():
                self._documents.take(message.items)
                self.send(DocumentsTaken())
            case CommandAnswered():
                self._answered(message)
            case _:
                for handler in self._handlers:
                    handler(message)

    def _answered(self, message: CommandAnswered) -> None:
        acks = self._waiting.get(message.number)
        if acks is None or acks.full():
            _log.debug("event=answer_unclaimed number=%d", message.number)
            return
        acks.put_nowait(msgspec.json.decode(message.ack, type=Ack))


async def _final(acks: "asyncio.Queue[Ack]") -> Ack:
    """Return the first ack that ends a command, which `accepted` does not."""
    while True:
        ack = await acks.get()
        if ack.result != "accepted":
            return ack
