"""One line: the model that is active on all its streams, and the moment at which it changes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from agent.inference.backends.in_flight import InFlightLimiter, Slot
from agent.inference.memory.cache import Cache, Closable, Entry
from agent.inference.serving.frame_loss import FrameLossCounter, FrameLossMark


class Served(Closable, Protocol):
    """What a line knows of a model."""

    @property
    def places(self) -> InFlightLimiter:
        """How many of its frames may be in flight, whatever lines they are of."""


Held = TypeVar("Held", bound=Served)


@dataclass(eq=False)
class _Activation(Generic[Held]):
    """A model's time on a line. `inside` are its frames in flight; `announced`: its answers may be sent."""

    entry: Entry[Held]
    places: InFlightLimiter
    inside: int = 0
    announced: bool = False


class Lease(Generic[Held]):
    """A model under one frame, and the frame's place with it. It cannot be released before the lease ends."""

    def __init__(self, line: "ActiveModelGate[Held]", turn: _Activation[Held], model: Held, place: Slot) -> None:
        self.model: Final = model
        self.place: Final = place
        self.reference: Final = turn.entry.version.reference
        self._line: Final = line
        self._turn: Final = turn

    def wait_for_turn(self) -> None:
        """Return when answers of this model may be sent: at once, but for the moment of a flip.

        That moment lasts until the streams that were still inferring with the model before have sent their answers.
        """
        self._line.wait_until_announced(self._turn)


class ActiveModelGate(Generic[Held]):
    """The gate between a line's streams and its swapper. `tallies` are its streams' counts, by stream.

    Streams lease per frame, when the model has a place for it; one swapper thread flips. The flip is one moment for all
    streams: frames that start after it are inferred by the new model at once, and their answers wait until `announce`
    was called.
    """

    def __init__(self, name: str, cache: Cache[Held]) -> None:
        self.name: Final = name
        self.tallies: Final[dict[str, FrameLossCounter]] = {}
        self._cache: Final = cache
        self._gate: Final = threading.Condition()
        self._turn: _Activation[Held] | None = None
        self._blind_since_ns = 0

    @property
    def active(self) -> Entry[Held] | None:
        """The entry that serves the line, None while nothing does."""
        turn = self._turn
        return turn.entry if turn else None

    @property
    def active_reference(self) -> str | None:
        """The reference that serves the line, None while nothing does."""
        entry = self.active
        return entry.version.reference if entry else None

    @contextmanager
    def lease(self, timeout_s: float, stream: str = "") -> Iterator[Lease[Held] | None]:
        """Look up and lease in one step, once the model has a place; None where that is not within `timeout_s`."""
        entered = self._enter(timeout_s, stream)
        if entered is None:
            yield None
            return
        turn, place = entered
        try:
            model = self._cache.lease(turn.entry)
        except BaseException:
            self._give_up(turn, place)
            raise
        try:
            yield Lease(self, turn, model, place)
        finally:
            self._leave(turn, place)

    def flip(self, entry: Entry[Held], announce: Callable[[], None]) -> None:
        """Make `entry`, claimed by this line, active for all streams, and call `announce` between the two.

        `announce` comes after the last answer of the model before was sent, and before the first of this one. Blocks
        for the frames in flight, as many as a model has places. The claim on the model before ends.
        """
        assert entry.model is not None, "what is claimed is resident"
        turn = _Activation(entry, entry.model.places)
        with self._gate:
            before, self._turn = self._turn, turn
            self._gate.notify_all()
        try:
            with self._gate:
                self._drain(before)
            announce()
        finally:  # whatever happens there, the streams must not wait for ever
            with self._gate:
                turn.announced = True
                self._blind_since_ns = 0
                self._gate.notify_all()
            self._cache.activate(self.name, before.entry if before is not None else None, entry)

    def deactivate(self) -> Entry[Held] | None:
        """Take the active model off the line, to make room; returns it, drained and unclaimed. Streams wait."""
        with self._gate:
            before, self._turn = self._turn, None
            if before is None:
                return None
            self._blind_since_ns = time.monotonic_ns()
            self._drain(before)
        self._cache.unclaim(before.entry, self.name)
        return before.entry

    @property
    def has_served(self) -> bool:
        """Say whether a model serves the line, or did before it was taken off to make room."""
        return self._turn is not None or self._blind_since_ns != 0

    def blind_ms(self, now_ns: int) -> float:
        """How long the line has been without the model that was taken off it; 0 if none was."""
        since_ns = self._blind_since_ns
        return (now_ns - since_ns) / 1e6 if since_ns else 0.0

    def mark(self, now_ns: int) -> dict[str, FrameLossMark]:
        """Note where every stream stands."""
        return {stream: tally.mark(now_ns) for stream, tally in self.tallies.items()}

    def lost_since(self, marks: dict[str, FrameLossMark]) -> int:
        """Sum up the frames that the streams lost since `marks`, beyond their steady rate."""
        return sum(self.tallies[stream].lost_since(mark) for stream, mark in marks.items())

    def wait_until_announced(self, turn: _Activation[Held]) -> None:
        """See Lease.wait_for_turn."""
        with self._gate:
            self._gate.wait_for(lambda: turn.announced)

    def _drain(self, turn: _Activation[Held] | None) -> None:
        if turn is not None:
            turn.places.wake()  # who waits for a place with this model shall ask the next one
            self._gate.wait_for(lambda: not turn.inside)

    def _enter(self, timeout_s: float, stream: str) -> tuple[_Activation[Held], Slot] | None:
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            with self._gate:
                self._gate.wait_for(lambda: self._turn is not None, left_s)
                turn = self._turn
            # Without a lease, so that no flip waits for who only waits himself.
            place = turn.places.take(left_s, self._is_over(turn), stream) if turn is not None else None
            if turn is not None and place is not None and self._entered(turn, place):
                return turn, place
        return None

    def _is_over(self, turn: _Activation[Held]) -> Callable[[], bool]:
        return lambda: self._turn is not turn

    def _entered(self, turn: _Activation[Held], place: Slot) -> bool:
        with self._gate:
            if self._turn is turn:
                turn.inside += 1
                return True
        place.give_back()
        return False

    def _leave(self, turn: _Activation[Held], place: Slot) -> None:
        try:
            self._cache.unlease(turn.entry)
        finally:
            self._give_up(turn, place)

    def _give_up(self, turn: _Activation[Held], place: Slot) -> None:
        """Let go of what a frame held: whatever happened to it, no flip and no other stream may wait for it."""
        place.give_back()
        with self._gate:
            turn.inside -= 1
            self._gate.notify_all()
