"""Infers the frames of all streams of one model, on a few threads of the model's own."""

import os
import select
import threading
from collections.abc import Iterable
from typing import Final, Protocol

from agent.inference.backends.in_flight import InFlightLimiter, Slot
from agent.processes.threads import RestartedThread

_LOOK_UP_S: Final = 0.25
"""Interval at which a thread without a frame looks whether it should stop, and for frames that nobody signalled."""


class Feed(Protocol):
    """A stream's frames, as the threads of a model use them; they must compare by identity."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while a frame waits."""

    def is_waiting(self) -> bool:
        """Return True where a frame waits, signalled or not."""

    def serve(self, slot: Slot) -> None:
        """Take the newest frame, have it inferred in `slot`, and send its answer; any thread may call this."""


class ModelThreads:
    """As many threads as a model has frames in flight, which serve its feeds in turn.

    Order: of the feeds with a frame, the one served longest ago comes first. Threading: any thread.
    """

    def __init__(self, name: str, places: InFlightLimiter) -> None:
        self._places: Final = places
        self._signals: Final = select.epoll()
        self._ended: Final = os.eventfd(0, os.EFD_CLOEXEC)
        """Readable from `stop` on, because a thread that waits for a frame keeps the model's turn from others."""
        self._signals.register(self._ended, select.EPOLLIN)
        self._changing: Final = threading.Lock()
        self._feeds: dict[int, Feed] = {}
        """By descriptor, the one served longest ago first."""
        self._stopping: Final = threading.Event()
        self._threads: Final = [RestartedThread(self._run, f"{name} {number}") for number in range(places.count)]

    def start(self) -> None:
        """Start serving feeds."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have each thread end after its frame; returns at once."""
        self._stopping.set()
        os.eventfd_write(self._ended, 1)

    def close(self) -> None:
        """Wait until all threads have ended, after `stop`, and give back their descriptors."""
        for thread in self._threads:
            thread.join()
        self._signals.close()
        os.close(self._ended)

    @property
    def is_alive(self) -> bool:
        """True until all threads have ended."""
        return any(thread.is_alive() for thread in self._threads)

    def add(self, feed: Feed) -> None:
        """Serve `feed`, whose frames come before those of all others."""
        with self._changing:
            if feed.fileno() not in self._feeds:  # another feed of its stream may be there until its line has drained
                self._signals.register(feed.fileno(), select.EPOLLIN)
            others = {fd: other for fd, other in self._feeds.items() if fd != feed.fileno()}
            self._feeds = {feed.fileno(): feed} | others

    def remove(self, feed: Feed) -> bool:
        """Serve `feed` no more; its frames in flight are answered. Return True where no feed is left."""
        with self._changing:
            if self._feeds.get(feed.fileno()) is feed:
                del self._feeds[feed.fileno()]
                self._signals.unregister(feed.fileno())
            return not self._feeds

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._step()

    def _step(self) -> None:
        """Serve one frame; a function of its own, because a waiting thread must hold no model."""
        with self._places.turn() as slot:
            feed = self._next() if self._places.wait_due(_LOOK_UP_S) else None
            if feed is not None:
                feed.serve(slot)

    def _next(self) -> Feed | None:
        """Wait for a frame; return its feed, None after a while without one."""
        if self._stopping.is_set():
            return None
        most = len(self._feeds) + 1  # because for epoll's usual 1,023 the allocator's lock is waited for, with the GIL
        ready = {descriptor for descriptor, _ in self._signals.poll(_LOOK_UP_S, most)}
        with self._changing:
            for descriptor, feed in self._feeds.items():
                # Both, because a writer that died between its last two steps has offered without signalling.
                if descriptor in ready or (not ready and feed.is_waiting()):
                    self._feeds[descriptor] = self._feeds.pop(descriptor)
                    return feed
        return None


class ThreadsOfModels:
    """The threads of each model that has feeds. Owner: the worker. Threading: any thread."""

    def __init__(self) -> None:
        self._changing: Final = threading.Lock()
        self._serving: Final[dict[InFlightLimiter, ModelThreads]] = {}
        self._ending: Final[list[ModelThreads]] = []

    def add(self, name: str, places: InFlightLimiter, feeds: Iterable[Feed]) -> None:
        """Have the threads of the model with `places` serve `feeds`; they start with its first feed."""
        with self._changing:
            self._add(name, places, feeds)

    def add_first(self, name: str, places: InFlightLimiter, feeds: Iterable[Feed]) -> bool:
        """Add `feeds` where the model with `places` has none yet; return False, and add none, where it has."""
        with self._changing:
            if places in self._serving:
                return False
            self._add(name, places, feeds)
            return True

    def _add(self, name: str, places: InFlightLimiter, feeds: Iterable[Feed]) -> None:
        for feed in feeds:
            if places not in self._serving:
                self._serving[places] = ModelThreads(name, places)
                self._serving[places].start()
            self._serving[places].add(feed)

    def remove(self, places: InFlightLimiter, feeds: Iterable[Feed]) -> None:
        """Serve `feeds` no more; the model's threads end after its last feed, and nothing waits for them."""
        with self._changing:
            ended = [threads for threads in self._ending if not threads.is_alive]
            for threads in ended:
                threads.close()
                self._ending.remove(threads)
            for feed in feeds:
                if self._serving[places].remove(feed):
                    self._serving[places].stop()
                    self._ending.append(self._serving.pop(places))

    def join(self) -> None:
        """Wait until the threads of all models without a feed have ended."""
        while self._ending:
            self._ending.pop().close()
