"""The loop of a camera process: open, pace, offer, and open again when it breaks."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol

from agent.capture.pacer import Pacer
from agent.capture.source import Image, SilentError, Source, SourceInfo, Warn
from agent.messages.children import CameraEnded, CameraFailed, CameraOpened, CameraSetup, Log, Message
from agent.messages.errors import MistakeError, TransientError
from agent.messages.redact import redact
from agent.processes.backoff import Backoff

READER_POLL_S: Final = 1.0


class Control(Protocol):
    """Control, as a camera process sees it; `processes.child.Child` is the real one."""

    def send(self, message: Message) -> None:
        """Send to control."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """Mark a call that could hang."""
        ...


class Writer(Protocol):
    """Where frames go; `processes.frame_slot.SlotWriter` is the real one."""

    def buffer(self, height: int, width: int) -> Image:
        """Return an array to fill."""
        ...

    def offer(self, captured_ns: int, captured_unix_ns: int) -> int:
        """Make it the newest frame."""
        ...

    def wait_taken(self, timeout_s: float) -> bool:
        """Wait until no frame waits."""
        ...


class Clock(Protocol):
    """The module `time`, or a test's own."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let them pass."""
        ...


class Camera:
    """Brings the frames of one source into one slot; for one thread. `create` is `sources.create`, or a test's own."""

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
        self._told: str | None = None
        self._was_open = False
        self._heard_s = 0.0

    def run(self) -> None:
        """Return when a file or folder came to its end; try again for ever after anything else."""
        while not self._attempt():
            pass
        self._control.send(CameraEnded(stream=self._setup.stream))

    def _attempt(self) -> bool:
        try:
            self._serve()
        except TransientError as error:
            # A triggered camera whose connection grew old is no news, unless it cannot be opened again.
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
            self._read(source)
        while self._setup.loop:
            with self._open(source):
                self._read(source)

    @contextmanager
    def _open(self, source: Source) -> Iterator[SourceInfo]:
        try:
            with self._control.busy():
                info = source.open()
            yield info
        finally:
            with self._control.busy():
                source.close()

    def _read(self, source: Source) -> None:
        frames = self._newest if source.live else self._each
        self._heard_s = self._clock.monotonic()
        for captured_ns, captured_unix_ns in frames(source):
            with self._control.busy():
                source.retrieve(self._writer.buffer)
            self._writer.offer(captured_ns, captured_unix_ns)
            self._backoff.reset()

    def _newest(self, source: Source) -> Iterator[tuple[int, int]]:
        """Grab all the time, so that no driver or network buffer grows old; yield what is due."""
        while True:
            captured = self._grab_patiently(source)
            now_s = self._clock.monotonic()
            if captured and self._pacer.is_due(now_s):
                self._pacer.step(now_s)
                yield captured

    def _each(self, source: Source) -> Iterator[tuple[int, int]]:
        """Yield every frame in order, when it is due and, where so set up, no frame waits for the worker."""
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

    def _grab_patiently(self, source: Source) -> tuple[int, int] | None:
        """Go on waiting where the source is well, since a frame that is due later than its time-out is no fault."""
        try:
            captured = self._grab(source)
        except SilentError:
            if not self._setup.triggered and self._clock.monotonic() - self._heard_s >= self._setup.read_s:
                raise
            return None
        self._heard_s = self._clock.monotonic()
        return captured

    def _grab(self, source: Source) -> tuple[int, int] | None:
        # Waiting for a trigger is no hang, however long it lasts.
        with nullcontext() if self._setup.triggered else self._control.busy():
            if not source.grab():
                return None
        return time.monotonic_ns(), time.time_ns()

    def _opened(self, source: Source, info: SourceInfo) -> None:
        self._told, self._was_open = None, True
        self._control.send(
            CameraOpened(
                stream=self._setup.stream, width=info.width, height=info.height, fps=info.fps, detail=source.name
            )
        )

    def _failed(self, error: Exception) -> None:
        """Tell control, once for each new detail: an attempt that fails like the last one is no news."""
        detail = redact(str(error))
        if detail != self._told:
            self._control.send(CameraFailed(stream=self._setup.stream, detail=detail))
        self._told = detail

    def _warn(self, text: str) -> None:
        self._control.send(Log(level="WARNING", text=f"{self._setup.stream}: {redact(text)}"))
