"""Holds the active model of one line, and switches it on all streams at one moment."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from agent.inference.backends.in_flight import InFlightLimiter, Slot
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.cache_entry import Closable
from agent.inference.scheduling import load_priority
from agent.inference.serving.frame_loss import FrameLossCounter, FrameLossMark
from agent.inference.serving.model_threads import ThreadsOfModels

if TYPE_CHECKING:
    from agent.inference.serving.comparing import Comparing


class Served(Closable, Protocol):
    """The methods of a model that a line uses."""

    @property
    def places(self) -> InFlightLimiter:
        """The limit of the model's frames in flight, over all lines."""


Held = TypeVar("Held", bound=Served)


class Stream(Protocol[Held]):
    """A stream of a line, whose frames the threads of the active model serve."""

    def fileno(self) -> int:
        """Implement `Feed.fileno`."""

    def is_waiting(self) -> bool:
        """Implement `Feed.is_waiting`."""

    def serve(self, lease: "AbstractContextManager[Lease[Held] | None]") -> None:
        """Take the newest frame under `lease`, unless that is None, have it inferred, and send its answer."""


@dataclass(eq=False)
class _Activation(Generic[Held]):
    """A period in which one model is active on a line."""

    entry: Entry[Held]
    places: InFlightLimiter
    feeds: "dict[Stream[Held], _Feed[Held]]"
    in_flight: int = 0
    """Number of the line's frames that hold a lease on the model."""
    is_announced: bool = False
    """The switch was announced, so the model's answers may be sent."""


class _Feed(Generic[Held]):
    """A stream's frames while one model is active."""

    def __init__(self, line: "ActiveModelGate[Held]", activation: _Activation[Held], stream: Stream[Held]) -> None:
        self._line: Final = line
        self._activation: Final = activation
        self._stream: Final = stream
        self.fileno: Final = stream.fileno
        self.is_waiting: Final = stream.is_waiting

    def serve(self, slot: Slot) -> None:
        self._stream.serve(self._line.lease(self._activation, slot))


class Lease(Generic[Held]):
    """One frame's hold on the active model, which is not released before the lease ends."""

    def __init__(self, line: "ActiveModelGate[Held]", activation: _Activation[Held], model: Held, slot: Slot) -> None:
        self.model: Final = model
        self.slot: Final = slot
        self.reference: Final = activation.entry.version.reference
        self._line: Final = line
        self._activation: Final = activation

    def wait_for_turn(self) -> None:
        """Wait until answers of this model may be sent.

        That is at once, unless the line has just switched: then the answers of the model before it are sent first.
        """
        self._line.wait_until_announced(self._activation)


class ActiveModelGate(Generic[Held]):
    """Holder of a line's active model, which streams lease for each frame and one swapper switches.

    Frames that are leased after a switch are inferred by the new model at once. Their answers wait until the switch is
    announced, which is after the last answer of the model before. A model that serves another line already gets frames
    only then.

    Threading: any thread may lease and read; one thread switches and deactivates.
    """

    def __init__(self, name: str, cache: Cache[Held], threads: ThreadsOfModels) -> None:
        self.name: Final = name
        self.frame_losses: Final[dict[str, FrameLossCounter]] = {}
        """Frame counts by stream."""
        self.comparing: Comparing | None = None
        """The comparison that runs on the line; the worker's comparisons assign it."""
        self._cache: Final = cache
        self._threads: Final = threads
        self._streams: Final[list[Stream[Held]]] = []
        self._changed: Final = threading.Condition()
        self._activation: _Activation[Held] | None = None
        self._blind_since_ns = 0

    @property
    def active(self) -> Entry[Held] | None:
        """Entry of the active model, None without one."""
        activation = self._activation
        return activation.entry if activation else None

    @property
    def usual_s(self) -> float:
        """Moving average of the duration of the active model's inferences, 0.0 without a model."""
        activation = self._activation
        return activation.places.usual_s if activation else 0.0

    @property
    def active_reference(self) -> str | None:
        """Reference of the active model, None without one."""
        entry = self.active
        return entry.version.reference if entry else None

    def add(self, stream: Stream[Held]) -> None:
        """Have the active model serve `stream`, and each one after it; not while a switch is under way."""
        self._streams.append(stream)
        activation = self._activation
        if activation is not None:
            self._feed(activation, [stream])

    def remove(self, stream: Stream[Held]) -> None:
        """Have no model serve `stream` any more; its frames in flight are answered. Not while a switch is under way."""
        self._streams.remove(stream)
        activation = self._activation
        if activation is not None:
            self._threads.remove(activation.places, [activation.feeds.pop(stream)])

    @contextmanager
    def lease(self, activation: _Activation[Held], slot: Slot) -> Iterator[Lease[Held] | None]:
        """Run the block with a lease on the model for the frame in `slot`; None where it is not active any more."""
        with self._changed:
            is_active = self._activation is activation
            activation.in_flight += is_active
        if not is_active:
            yield None
            return
        try:
            model = self._cache.lease(activation.entry)
            try:
                yield Lease(self, activation, model, slot)
            finally:
                self._cache.unlease(activation.entry)
        finally:
            with self._changed:
                activation.in_flight -= 1
                self._changed.notify_all()

    def flip(self, entry: Entry[Held], announce: Callable[[], None]) -> None:
        """Switch all streams to `entry`, which this line has claimed, and end the claim on the previous model.

        Order: `announce` is called after the previous model's last answer was sent, and before the first of the new
        one. Blocks until the previous model's frames in flight are done.
        """
        assert entry.model is not None, "a claimed model is resident"
        if entry.idle_leases and not entry.serving:
            load_priority.restore_normal()  # because that picture may be inferred at idle priority just now
        activation = _Activation(entry, entry.model.places, {})
        with self._changed:
            before, self._activation = self._activation, activation
        try:
            # Not where another line has the model's threads, which answers that wait for the switch would hold.
            is_fed = self._feed_first(activation)
            if before is not None:
                self._drain(before)
            if not is_fed:
                self._feed(activation, self._streams)
            announce()
        finally:  # because the streams must not wait for ever, whatever happens there
            with self._changed:
                activation.is_announced = True
                self._blind_since_ns = 0
                self._changed.notify_all()
            self._cache.activate(self.name, before.entry if before is not None else None, entry)

    def deactivate(self) -> Entry[Held] | None:
        """Stop using the active model, wait for its frames, end the claim, and return its entry; None without one.

        The streams wait for the next model.
        """
        with self._changed:
            before, self._activation = self._activation, None
            if before is None:
                return None
            self._blind_since_ns = time.monotonic_ns()
        self._drain(before)
        self._cache.unclaim(before.entry, self.name)
        return before.entry

    @property
    def has_served(self) -> bool:
        """Return True where a model serves the line, or did until it was deactivated to make room."""
        return self._activation is not None or self._blind_since_ns != 0

    def blind_ms(self, now_ns: int) -> float:
        """Return the time in ms since `deactivate`; 0.0 while the line has a model."""
        since_ns = self._blind_since_ns
        return (now_ns - since_ns) / 1e6 if since_ns else 0.0

    def mark(self, now_ns: int) -> dict[str, FrameLossMark]:
        """Return the frame counts of all streams."""
        return {stream: loss.mark(now_ns) for stream, loss in self.frame_losses.items()}

    def lost_since(self, marks: dict[str, FrameLossMark]) -> int:
        """Return the number of frames lost by all streams since `marks`, beyond their steady loss."""
        return sum(self.frame_losses[stream].lost_since(mark) for stream, mark in marks.items())

    def wait_until_announced(self, activation: _Activation[Held]) -> None:
        """Wait until the switch to the model was announced; see Lease.wait_for_turn."""
        with self._changed:
            self._changed.wait_for(lambda: activation.is_announced)

    def _feed_first(self, activation: _Activation[Held]) -> bool:
        """Have the model serve all streams where it serves no line yet; return False where it does."""
        feeds = {stream: _Feed(self, activation, stream) for stream in self._streams}
        reference = activation.entry.version.reference
        is_fed = self._threads.add_first(reference, activation.places, feeds.values())
        if is_fed:
            activation.feeds.update(feeds)
        return is_fed

    def _feed(self, activation: _Activation[Held], streams: Iterable[Stream[Held]]) -> None:
        feeds = {stream: _Feed(self, activation, stream) for stream in streams}
        activation.feeds.update(feeds)
        self._threads.add(activation.entry.version.reference, activation.places, feeds.values())

    def _drain(self, activation: _Activation[Held]) -> None:
        """Have the model that was active serve no stream, and wait for its frames in flight."""
        self._threads.remove(activation.places, activation.feeds.values())
        with self._changed:
            self._changed.wait_for(lambda: not activation.in_flight)
