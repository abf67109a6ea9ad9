"""Event loop of the control process: callbacks of descriptors, and an inbox for threads and signal handlers."""

import os
import selectors
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

Callback = Callable[[], None]

_INBOX_BATCH: Final = 256
"""Events handled in a turn before descriptors are polled again."""


class Loop:
    """Event loop of one thread, the caller of `run_once`; only `put` is for others.

    The inbox is a SimpleQueue, because its `put` may be called in a signal handler. It stays bounded, because each turn
    handles everything that its own reads have brought; a flood waits in the socket, then at the broker.
    """

    def __init__(self) -> None:
        self._inbox: Final[SimpleQueue[object]] = SimpleQueue()
        self._selector: Final = selectors.DefaultSelector()
        self._wake: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, (self._drain_wake, None))

    def put(self, event: object) -> None:
        """Enqueue an event, from any thread or signal handler."""
        self._inbox.put(event)
        os.eventfd_write(self._wake, 1)

    def register(self, fd: int, *, read: Callback | None = None, write: Callback | None = None) -> None:
        """Call `read` or `write` when `fd` is ready; replaces earlier callbacks of `fd`."""
        mask = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        if fd in self._selector.get_map():
            self._selector.modify(fd, mask, (read, write))
        else:
            self._selector.register(fd, mask, (read, write))

    def unregister(self, fd: int) -> None:
        """Stop watching `fd`; an unknown `fd` is ignored."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def run_once(self, timeout_s: float, handle: Callable[[object], None]) -> None:
        """Wait up to `timeout_s` for descriptors, run their callbacks, then pass queued events to `handle`."""
        for key, mask in self._selector.select(timeout_s):
            read, write = key.data
            if mask & selectors.EVENT_READ and read:
                read()
            if mask & selectors.EVENT_WRITE and write and key.fd in self._selector.get_map():
                write()
        for _ in range(max(_INBOX_BATCH, self._inbox.qsize())):
            try:
                event = self._inbox.get_nowait()
            except Empty:
                return
            handle(event)
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close the loop's descriptors."""
        self._selector.close()
        os.close(self._wake)

    def _drain_wake(self) -> None:
        os.eventfd_read(self._wake)
