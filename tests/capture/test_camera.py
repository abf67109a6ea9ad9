"""The loop of a camera process, on dummies and on a clock of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from agent.capture.camera import Camera
from agent.capture.dummy import DummySource
from agent.capture.source import Image, SilentError, Source, Warn
from agent.messages.children import CameraEnded, CameraFailed, CameraOpened, CameraSetup, Message
from agent.messages.descriptors import SlotDescriptors
from agent.messages.errors import MistakeError, TransientError


class Over(Exception):  # noqa: N818 - ends a loop that has no end, and is no error
    """The test has seen enough."""


class Clock:
    """Time that passes only where somebody sleeps or `passes` it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float, /) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


class Control:
    """Keeps what it was sent, and knows whether the camera is busy."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.depth = 0

    def send(self, message: Message) -> None:
        self.sent.append(message)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1

    def kinds(self) -> list[type[Message]]:
        return [type(message) for message in self.sent]


class Writer:
    """Keeps the value of each frame and when it was offered."""

    def __init__(self, clock: Clock, enough: int = 1_000_000) -> None:
        self.offered: list[tuple[int, float]] = []
        self.waited = 0
        self._clock = clock
        self._enough = enough
        self._image: Image = np.zeros((1, 1, 3), np.uint8)

    def buffer(self, height: int, width: int) -> Image:
        self._image = np.zeros((height, width, 3), np.uint8)
        return self._image

    def offer(self, captured_ns: int, captured_unix_ns: int, of: tuple[int, int] | None = None) -> int:
        assert 0 < captured_ns < captured_unix_ns
        assert of is None
        self.offered.append((int(self._image[0, 0, 0]), self._clock.now_s))
        if len(self.offered) == self._enough:
            raise Over
        return len(self.offered) - 1

    def values(self) -> list[int]:
        return [value for value, _ in self.offered]

    def times_s(self) -> list[float]:
        return [now_s for _, now_s in self.offered]

    def wait_taken(self, timeout_s: float) -> bool:
        """Take each frame at the third time of asking."""
        assert timeout_s > 0
        self.waited += 1
        return self.waited % 3 == 0


def setup(
    fps: float = 0.0, *, loop: bool = False, wait_for_reader: bool = False, triggered: bool = False
) -> CameraSetup:
    slot = SlotDescriptors(memory=-1, offered=-1, taken=-1)
    return CameraSetup("cam-1", "dummy", fps, loop, wait_for_reader, slot, triggered)


def always(source: Source) -> Callable[[str, Warn], Source]:
    return lambda _text, _warn: source


def test_a_file_is_delivered_whole_and_in_order_at_its_rate() -> None:
    clock, control = Clock(), Control()
    writer = Writer(clock)
    Camera(control, setup(fps=10), writer, always(DummySource(5)), clock).run()
    assert writer.values() == [0, 1, 2, 3, 4]
    assert writer.times_s() == pytest.approx([1000 + number / 10 for number in range(5)])
    assert writer.waited == 0
    assert control.kinds() == [CameraOpened, CameraEnded]


def test_a_loop_starts_over_without_a_gap_or_another_word() -> None:
    clock, control = Clock(), Control()
    writer = Writer(clock, enough=7)
    with pytest.raises(Over):
        Camera(control, setup(fps=10, loop=True), writer, always(DummySource(3)), clock).run()
    assert writer.values() == [0, 1, 2, 0, 1, 2, 0]
    assert writer.times_s() == pytest.approx([1000 + number / 10 for number in range(7)])
    assert control.kinds() == [CameraOpened]


def test_each_frame_waits_for_the_reader_where_so_set_up() -> None:
    clock = Clock()
    writer = Writer(clock)
    Camera(Control(), setup(wait_for_reader=True), writer, always(DummySource(4)), clock).run()
    assert writer.values() == [0, 1, 2, 3]
    assert writer.waited == 3 * 5


def test_a_live_source_is_grabbed_all_the_time_and_offered_at_most_at_fps() -> None:
    clock, control = Clock(), Control()
    writer = Writer(clock, enough=31)

    def pass_a_frame() -> None:
        clock.now_s += 1 / 30

    source = DummySource(1000, live=True, before=pass_a_frame)
    with pytest.raises(Over):
        Camera(control, setup(fps=15), writer, always(source), clock).run()
    assert writer.values() == list(range(0, 61, 2))
    assert clock.slept_s == []


def test_a_source_that_breaks_is_opened_again_and_its_successes_bring_the_delays_back_down() -> None:
    clock, control = Clock(), Control()
    writer = Writer(clock, enough=60)
    with pytest.raises(Over):
        Camera(control, setup(), writer, always(DummySource(2, live=True)), clock).run()
    assert control.kinds()[:4] == [CameraOpened, CameraFailed, CameraOpened, CameraFailed]
    assert len(clock.slept_s) == 29
    assert max(clock.slept_s) <= 0.2


def test_repeated_failures_are_told_once_and_their_delays_grow_to_the_cap() -> None:
    clock, control = Clock(), Control()
    attempts = 0

    def fail(_text: str, _warn: Warn) -> Source:
        nonlocal attempts
        attempts += 1
        if attempts == 200:
            raise Over
        raise TransientError("cannot open http://user:secret@host/")

    with pytest.raises(Over):
        Camera(control, setup(), Writer(clock), fail, clock).run()
    assert control.sent == [CameraFailed(stream="cam-1", detail="cannot open http://***@host/")]
    bounds_s = [0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * 194]
    assert all(delay_s <= bound_s for delay_s, bound_s in zip(clock.slept_s, bounds_s, strict=True))
    assert max(clock.slept_s) > 4


def test_a_mistake_is_tried_again_at_the_cap_and_told_once() -> None:
    clock, control = Clock(), Control()
    attempts = 0

    def mistake(_text: str, _warn: Warn) -> Source:
        nonlocal attempts
        attempts += 1
        if attempts < 100:
            raise MistakeError("no such scheme")
        return DummySource(1)

    Camera(control, setup(), Writer(clock), mistake, clock).run()
    assert control.kinds() == [CameraFailed, CameraOpened, CameraEnded]
    assert sum(clock.slept_s[:99]) > 99  # at the cap, 2.5 s in the mean


def test_every_call_that_could_hang_is_marked_busy() -> None:
    clock, control = Clock(), Control()
    marks: list[int] = []
    source = DummySource(3, before=lambda: marks.append(control.depth))
    Camera(control, setup(), Writer(clock), always(source), clock).run()
    assert marks == [1] * 5
    assert control.depth == 0


def test_a_source_is_closed_whatever_happened() -> None:
    clock = Clock()
    closed: list[bool] = []

    class Closing(DummySource):
        def close(self) -> None:
            closed.append(True)

    with pytest.raises(Over):
        Camera(Control(), setup(), Writer(clock, enough=1), always(Closing(2)), clock).run()
    assert closed == [True]


def silent_but_for(numbers: set[int], passing: Callable[[], None] = lambda: None) -> DummySource:
    """Give a live source, opened once, that has a frame at its n-th grab only where n is one of `numbers`."""
    calls = 0

    def before() -> None:
        nonlocal calls
        calls += 1
        if calls > 1 and calls - 1 not in numbers:
            passing()
            raise SilentError("no frame in time")

    return DummySource(1000, live=True, before=before)


def test_a_triggered_camera_waits_for_its_trigger_without_a_word() -> None:
    clock, control = Clock(), Control()
    writer = Writer(clock, enough=3)
    with pytest.raises(Over):
        Camera(control, setup(triggered=True), writer, always(silent_but_for({5, 90, 91})), clock).run()
    assert writer.values() == [0, 1, 2]
    assert control.kinds() == [CameraOpened]
    assert clock.slept_s == []


def test_any_other_camera_that_is_silent_has_failed() -> None:
    clock, control = Clock(), Control()

    def pass_a_time_out() -> None:
        clock.now_s += 1

    sources = iter([silent_but_for({1, 2}, pass_a_time_out)])

    def create(_text: str, _warn: Warn) -> Source:
        source = next(sources, None)
        if source is None:
            raise Over
        return source

    with pytest.raises(Over):
        Camera(control, setup(), Writer(clock), create, clock).run()
    assert control.kinds() == [CameraOpened, CameraFailed]


def test_waiting_for_a_trigger_is_not_taken_for_a_hang() -> None:
    control = Control()
    depths: list[int] = []
    source = DummySource(2, live=True, before=lambda: depths.append(control.depth))
    clock = Clock()
    with pytest.raises(Over):
        Camera(control, setup(triggered=True), Writer(clock, enough=2), always(source), clock).run()
    assert depths == [1, 0, 0]


def test_a_triggered_camera_that_breaks_is_told_of_once_it_cannot_be_opened_again() -> None:
    clock, control = Clock(), Control()
    attempts = 0

    def create(_text: str, _warn: Warn) -> Source:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            raise TransientError("unplugged")
        if attempts == 5:
            raise Over
        return DummySource(1, live=True)

    with pytest.raises(Over):
        Camera(control, setup(triggered=True), Writer(clock), create, clock).run()
    assert control.kinds() == [CameraOpened, CameraOpened, CameraFailed, CameraOpened]
