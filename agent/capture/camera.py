"""Main loop of a camera process: open the source, read, pace, offer frames, and reopen after a failure."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol

from agent.capture.pacer import Pacer
from agent.capture.source import Image, SilentError, Source, SourceInfo, Warn
from agent.messages.children import CameraEnded, CameraFailed, CameraOpened, CameraSetup, Log, Message
from agent.messages.errors import MistakeError, TransientError
from agent.processes.backoff import Backoff
from agent.redact import redact

READER_POLL_S: Final = 1.0


class Control(Protocol):
    """Connection to control that a camera needs; implemented by `processes.child.Child`."""

    def send(self, message: Message) -> None:
        """Send a message to control."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """Return a context manager that marks a call that could hang, for control's watchdog."""
        ...


class Writer(Protocol):
    """Writing end of a frame slot; implemented by `processes.slots.frame_slot.SlotWriter`."""

    def buffer(self, height: int, width: int) -> Image:
        """Return a (height, width, 3) uint8 array to write the next frame into."""
        ...

    def offer(self, captured_ns: int, captured_unix_ns: int, of: tuple[int, int] | None = None) -> int:
        """Publish the written buffer as the newest frame; return the frame's number.

        `of`: (height, width) of the camera's picture where the frame was scaled down from it; else None.
        """
        ...

    def wait_taken(self, timeout_s: float) -> bool:
        """Wait until the worker has taken the newest frame; False after `timeout_s`."""
        ...


class Clock(Protocol):
    """Monotonic clock with a sleep; implemented by the module `time`."""

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block for `seconds`."""
        ...


class Camera:
    """Loop that copies frames of one source into one frame slot; for one thread."""

    def __init__(
        self,
        control: Control,
        setup: CameraSetup,
        writer: Writer,
        create: Callable[[str, Warn], Source],
        clock: Clock = time,
    ) -> None:
        self._control: Final = control
        self._setup: Final = setup
        self._writer: Final = writer
        self._create: Final = create
        self._clock: Final = clock
        self._pacer: Final = Pacer(setup.fps)
        self._backoff: Final = Backoff()
        self._last_failure: str | None = None
        self._was_open = False
        self._last_frame_s = 0.0

    def run(self) -> None:
        """Read the source until its file or folder ends; retry every other failure for ever."""
        while not self._attempt():
            pass
        self._control.send(CameraEnded(stream=self._setup.stream))

    def _attempt(self) -> bool:
        try:
            self._serve()
        except TransientError as error:
            # Silent for a triggered camera, because its idle connection may time out; a failed reopening is reported.
            if not (self._setup.triggered and self._was_open):
                self._failed(error)
            self._was_open = False
            self._clock.sleep(self._backoff.next_s())
        except MistakeError as error:
            self._failed(error)
            self._clock.sleep(self._backoff.next_at_cap_s())
        else:
            return True
        return False

    def _serve(self) -> None:
        with self._control.busy():
            source = self._create(self._setup.source, self._warn)
        with self._open(source) as info:
            self._opened(source, info)
            self._read(source, info)
        while self._setup.loop:
            with self._open(source) as info:
                self._read(source, info)

    @contextmanager
    def _open(self, source: Source) -> Iterator[SourceInfo]:
        try:
            with self._control.busy():
                info = source.open()
            yield info
        finally:
            with self._control.busy():
                source.close()

    def _read(self, source: Source, info: SourceInfo) -> None:
        frames = self._newest if source.live else self._each
        of = (info.height, info.width) if info.is_scaled else None
        self._last_frame_s = self._clock.monotonic()
        for captured_ns, captured_unix_ns in frames(source):
            with self._control.busy():
                source.retrieve(self._writer.buffer)
            self._writer.offer(captured_ns, captured_unix_ns, of)
            self._backoff.reset()

    def _newest(self, source: Source) -> Iterator[tuple[int, int]]:
        """Yield the capture times of frames that are due; grab and skip the others, so that no buffer holds old frames.

        A time is a pair of time.monotonic_ns and time.time_ns.
        """
        while True:
            captured = self._grab_unless_silent(source)
            now_s = self._clock.monotonic()
            if captured and self._pacer.is_due(now_s):
                self._pacer.step(now_s)
                yield captured

    def _each(self, source: Source) -> Iterator[tuple[int, int]]:
        """Yield the capture times of all frames in order, at the stream's rate.

        With `wait_for_reader`, a frame follows only once the worker has taken the one before. Times are as in
        `_newest`.
        """
        while True:
            self._clock.sleep(self._pacer.left_s(self._clock.monotonic()))
            while self._setup.wait_for_reader and not self._writer.wait_taken(READER_POLL_S):
                pass
            now_s = self._clock.monotonic()
            captured = self._grab(source)
            if not captured:
                return
            self._pacer.step(now_s)
            yield captured

    def _grab_unless_silent(self, source: Source) -> tuple[int, int] | None:
        """Grab a frame; return its capture times, or None where the source was silent for less than `read_s`.

        A triggered camera may be silent for any time. Raises SilentError after `read_s` for others.
        """
        try:
            captured = self._grab(source)
        except SilentError:
            if not self._setup.triggered and self._clock.monotonic() - self._last_frame_s >= self._setup.read_s:
                raise
            return None
        self._last_frame_s = self._clock.monotonic()
        return captured

    def _grab(self, source: Source) -> tuple[int, int] | None:
        # Not marked for a triggered camera, because waiting for a trigger is no hang.
        with nullcontext() if self._setup.triggered else self._control.busy():
            if not source.grab():
                return None
        return time.monotonic_ns(), time.time_ns()

    def _opened(self, source: Source, info: SourceInfo) -> None:
        self._last_failure, self._was_open = None, True
        self._control.send(
            CameraOpened(
                stream=self._setup.stream,
                width=info.width,
                height=info.height,
                fps=info.fps,
                detail=source.name,
                decoder=redact(info.decoder),
                is_scaled=info.is_scaled,
            )
        )

    def _failed(self, error: Exception) -> None:
        """Report a failure to control, unless its text equals the last reported one."""
        detail = redact(str(error))
        if detail != self._last_failure:
            self._control.send(CameraFailed(stream=self._setup.stream, detail=detail))
        self._last_failure = detail

    def _warn(self, text: str) -> None:
        self._control.send(Log(level="WARNING", text=redact(text)))
