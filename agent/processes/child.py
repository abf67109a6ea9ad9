"""Child process runtime: sends hello and heartbeats, receives messages, exits with its parent."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Final, Generic

from msgspec.structs import replace

from agent.messages.children import Beat, Hello, LogSetup, Message, StreamProgress
from agent.processes.channel import Channel, ChannelClosedError, Incoming, MessageTooLargeError
from agent.processes.logs import set_level, set_up

_log: Final = logging.getLogger(__name__)
BEAT_INTERVAL_S: Final = 0.25
_CRASHED: Final = 70  # EX_SOFTWARE
_TEXTS: Final = ("detail", "text")
"""Fields of messages that are cut where they make a message too large."""
_TEXT_LENGTH: Final = 4096


class Child(Generic[Incoming]):
    """Runtime of a child process: its channel to control, and its calls in progress that could hang.

    When control closes its end, the process exits at once, because an orphan must not hold a camera or memory.
    """

    def __init__(self, channel: Channel[Incoming]) -> None:
        self.inbox: Final[SimpleQueue[Incoming]] = SimpleQueue()
        """Received messages, enqueued by the listening thread."""
        self.progress: Callable[[], tuple[StreamProgress, ...]] = tuple
        """Returns the progress of all streams; called for each heartbeat, on the thread that sends it."""
        self._channel: Final = channel
        self._busy: Final[dict[int, tuple[int, bool]]] = {}
        """`busy_since_ns` and `is_request` of each thread's call."""

    def first(self) -> Incoming:
        """Wait for the first message that is no log level, before `start`; it is in the inbox, too."""
        while True:
            message = self._receive()
            if message is not None:
                return message

    def wait(self, seconds: float) -> None:
        """Send heartbeats for some time, before `start`, where the process cannot begin yet."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.send(Beat(0, self.progress()))
            time.sleep(BEAT_INTERVAL_S)

    def start(self) -> None:
        """Start the daemon threads that receive messages and send heartbeats."""
        for target in (self._listen, self._beat):
            name = target.__name__.strip("_")
            threading.Thread(target=self._run, args=(target,), name=name, daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message to control, from any thread; ends the process where control is gone.

        Long error texts are cut to fit. Raises MessageTooLargeError for any other message that is too large.
        """
        try:
            try:
                self._channel.send(message)
            except MessageTooLargeError:
                self._channel.send(_shortened(message))
        except ChannelClosedError:
            os._exit(0)

    @contextmanager
    def busy(self, grace_s: float = 0.0, *, is_request: bool = False) -> Iterator[None]:
        """Run the block as a call that could hang; control kills the child where it outlasts the child's deadline.

        `grace_s` is added to the deadline of a block that usually takes long.
        """
        thread = threading.get_ident()
        self._busy[thread] = (time.monotonic_ns() + int(grace_s * 1e9), is_request)
        try:
            yield
        finally:
            del self._busy[thread]

    def _run(self, target: Callable[[], None]) -> None:
        """Run `target` in a thread without which the child is useless; the process exits if it raises."""
        try:
            target()
        except BaseException:  # noqa: BLE001 - the process ends by it
            _log.exception("event=crashed thread=%s", threading.current_thread().name)
            os._exit(_CRASHED)

    def _listen(self) -> None:
        while True:
            self._receive()

    def _receive(self) -> Incoming | None:
        """Enqueue the next message and return it; None where it was a log level, which is set."""
        try:
            message = self._channel.receive()
        except ChannelClosedError:
            os._exit(0)
        if isinstance(message, LogSetup):
            set_level(message.level)
            return None
        if message is not None:
            self.inbox.put(message)
        return message

    def _beat(self) -> None:
        while True:
            since_ns, is_request = min(list(self._busy.values()), default=(0, False))
            self.send(Beat(since_ns, self.progress(), is_request))
            time.sleep(BEAT_INTERVAL_S)


def _shortened(message: Message) -> Message:
    texts = {name: getattr(message, name)[:_TEXT_LENGTH] for name in _TEXTS if hasattr(message, name)}
    return replace(message, **texts)


def run_child(
    incoming: Any,  # noqa: ANN401 - a union of types has no type
    versions: dict[str, str],
    main: Callable[[Child[Any]], None],
    before: Callable[[Child[Any]], None] | None = None,
) -> None:
    """Entry of a child started as `python -m MODULE DESCRIPTOR`; returns when `main` returns.

    `before` runs while the process has one thread, as walls need it. SIGINT is ignored, because a terminal sends it to
    children too, and control ends them by closing their channels.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up()
    child: Child[Any] = Child(Channel(socket.socket(fileno=int(sys.argv[1])), incoming))
    child.send(Hello(pid=os.getpid(), versions=versions))
    if before is not None:
        before(child)
    child.start()
    main(child)
