"""The worker's end of the link to the web process."""

import logging
import os
import select
import socket
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory.cache import Cache
from agent.inference.requests.held_models import HeldModels
from agent.inference.requests.runner import RequestRunner
from agent.inference.serving.stream_pipeline import Outlet
from agent.inference.swapping.load_queue import LoadQueue
from agent.messages.children import Message
from agent.messages.descriptors import RequestLink
from agent.messages.web.holding import HoldModel
from agent.messages.web.requests import Release, Released, ToRequests, WorkerStarted
from agent.processes.channel import Channel, ChannelClosedError, MessageTooLargeError
from agent.processes.slots.request_memory import RequestMemory
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)


class RequestServer:
    """Serves the web process's requests. Owner: the worker.

    Control keeps both ends of the channel open, so either side may be replaced. What an earlier worker did not read is
    thrown away before the first answer.
    """

    def __init__(self, link: RequestLink, loads: LoadQueue, cache: Cache[Model], outlet: Outlet) -> None:
        self._channel: Final[Channel[ToRequests]] = Channel(
            socket.socket(fileno=link.channel), ToRequests, patient=False
        )
        self._loads: Final = loads
        self.unsent = 0
        """Answers that were dropped, because the web process does not read."""
        self._held: Final = HeldModels(loads, cache, self._send)
        self._runner: Final = RequestRunner(RequestMemory(link.memory), self._held, cache, outlet, self._send)
        self._stopping: Final = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: Final = RestartedThread(self._listen, "request link")

    def start(self) -> None:
        """Throw away what was sent to an earlier worker, and serve."""
        while self._channel.receive(0.0) is not None:
            continue
        self._held.start()
        self._runner.start()
        self._thread.start()
        self._send(WorkerStarted())

    def stop(self) -> None:
        """Stop serving; requests that wait stay unanswered."""
        os.eventfd_write(self._stopping, 1)
        self._thread.join()
        self._runner.stop()
        self._held.stop()

    def hold(self, message: HoldModel) -> None:
        """Load a model and keep it for requests, as control says; from any thread."""
        self._held.hold(message)

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._stopping, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._stopping in ready:
                return
            message = self._channel.receive(0.0)
            if isinstance(message, Release):
                self._release(message)
            elif message is not None:
                self._runner.put(message)

    def _release(self, message: Release) -> None:
        self._loads.release(message.reference, lambda detail: self._send(Released(message.number, detail)))

    def _send(self, message: Message) -> None:
        """Send to the web process; drops the message where that does not read, which then times out."""
        try:
            self._channel.send(message)
        except (ChannelClosedError, MessageTooLargeError) as error:
            self.unsent += 1
            _LOG.warning("event=answer_not_sent kind=%s detail=%r", type(message).__name__, str(error))
