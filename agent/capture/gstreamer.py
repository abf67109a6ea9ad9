"""GStreamer pipelines as sources: a gst-launch-1.0 subprocess that writes frames to a pipe.

Frames travel as YUV4MPEG2, because its header states the size and each frame has a marker, so no log is parsed; and
because it takes half the bytes of BGR.
"""

import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from agent.capture.source import Buffer, Image, Patience, SilentError, SourceInfo
from agent.messages.errors import MistakeError, TransientError
from agent.messages.texts.camera_names import CameraFormat
from agent.processes.parent_death import ending_with_us
from agent.redact import redact

PROGRAM: Final = "gst-launch-1.0"
# Leaky, because here too the newest frame wins; bt601, because cv2 assumes it for I420.
TAIL: Final = (
    "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0 ! videoconvert "
    "! video/x-raw,format=I420,colorimetry=bt601 ! y4menc ! fdsink fd=1 sync=false"
)
_MAGIC: Final = b"YUV4MPEG2 "
_FRAME: Final = b"FRAME"
_LINE_BYTES: Final = 512
_WIDTH_STEP: Final = 8
"""Frame widths must be multiples of this, because some versions of y4menc pad rows of other widths."""
_PIPE_BYTES: Final = 2**20
_COMPLAINT_BYTES: Final = 4096
_COMPLAINT: Final = re.compile(r"(?:ERROR|WARNING: erroneous pipeline)[^:]*: (?:from element \S+: )?(.*)")


class GstSource:
    """Pipeline without a sink, such as `v4l2src ! image/jpeg ! jpegdec`, in a subprocess; for one thread.

    Each `open` starts a new gst-launch-1.0; `close` kills it, and the kernel does if this process dies.
    """

    def __init__(self, name: str, pipeline: str, patience: Patience, stdin: int = subprocess.DEVNULL) -> None:
        """Store the parameters; `stdin` is a descriptor that the pipeline reads, and that the caller closes."""
        self.name = name
        self.live = True
        self.pipeline: Final = pipeline
        self._patience: Final = patience
        self._stdin: Final = stdin
        self._process: subprocess.Popen[bytes] | None = None
        self._selector: selectors.DefaultSelector | None = None
        self._frame: Image = np.empty((0, 0), np.uint8)
        self._complaints = b""

    def open(self) -> SourceInfo:
        """Start the pipeline and wait for its first frame, at most `open_s`."""
        self._start()
        deadline_s = time.monotonic() + self._patience.open_s
        header = self._line(deadline_s)
        width, height, fps = self._read_header(header)
        self._frame = np.empty((height * 3 // 2, width), np.uint8)
        return SourceInfo(width=width, height=height, fps=fps)

    def grab(self) -> bool:
        """Read the next frame from the pipe.

        Raises SilentError where none comes within `read_s`, and TransientError where the pipeline ended.
        """
        deadline_s = time.monotonic() + self._patience.read_s
        if not self._line(deadline_s).startswith(_FRAME):
            raise TransientError(f"{self.name} sent no whole frame")
        try:
            self._fill(self._frame.data.cast("B"), deadline_s)
        except SilentError as error:  # because the rest of this frame would be read as the next one's header
            raise TransientError(str(error)) from error
        return True

    def retrieve(self, buffer: Buffer) -> None:
        """Convert the frame to BGR, directly into an array from `buffer`."""
        height, width = self._frame.shape[0] * 2 // 3, self._frame.shape[1]
        cv2.cvtColor(self._frame, cv2.COLOR_YUV2BGR_I420, dst=buffer(height, width))

    def close(self) -> None:
        """Kill the pipeline's process group; idempotent."""
        process, self._process = self._process, None
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if process is None:
            return
        for end in (process.stdout, process.stderr):
            assert end is not None
            end.close()
        with suppress(ProcessLookupError):  # because it has ended already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _start(self) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise TransientError(
                f"{self.name} needs {PROGRAM}: apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good"
            )
        words = [*shlex.split(self.pipeline), "!", *shlex.split(TAIL)]
        self._complaints = b""
        self._process = subprocess.Popen(
            # By the kernel, because a stalled pipeline never writes and so never notices a closed pipe.
            ending_with_us([program, "-q", *words]),
            stdin=self._stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pipesize=_PIPE_BYTES,
            bufsize=0,
            start_new_session=True,
        )
        self._selector = selectors.DefaultSelector()
        for end in (self._process.stdout, self._process.stderr):
            assert end is not None
            os.set_blocking(end.fileno(), False)
            self._selector.register(end.fileno(), selectors.EVENT_READ)

    def _read_header(self, header: bytes) -> tuple[int, int, float]:
        """Parse a stream header (yuv4mpeg(5)); return width, height and frames per second (0 where not stated)."""
        tags = {word[:1]: word[1:].decode("ascii", "replace") for word in header[len(_MAGIC) :].split()}
        if not header.startswith(_MAGIC) or not {b"W", b"H"} <= tags.keys():
            raise TransientError(f"{self.name} sent something else than frames")
        width, height = int(tags[b"W"]), int(tags[b"H"])
        if width % _WIDTH_STEP or height % 2:
            advice = "scale or crop it to a width that 8 divides, and an even height (videoscale, videocrop)"
            raise MistakeError(f"{self.name} gives {width}x{height}: {advice}")
        over, _, under = tags.get(b"F", "0:1").partition(":")
        return width, height, float(Fraction(int(over), int(under or 1) or 1))

    def _line(self, deadline_s: float) -> bytes:
        line = bytearray()
        byte = memoryview(bytearray(1))
        while not line.endswith(b"\n"):
            if len(line) > _LINE_BYTES:
                raise TransientError(f"{self.name} sent something else than frames")
            self._fill(byte, deadline_s)
            line += byte
        return bytes(line)

    def _fill(self, view: memoryview, deadline_s: float) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        done = 0
        while done < len(view):
            self._wait(deadline_s)
            count = self._process.stdout.readinto(view[done:])  # type: ignore[attr-defined] # unbuffered: a FileIO
            if count == 0:
                self._wait_for_end()
                raise TransientError(f"{self.name} ended{self._reason()}")
            done += count or 0

    def _wait(self, deadline_s: float) -> None:
        """Wait for output of the pipeline; drain stderr meanwhile, so that the pipeline never blocks on it.

        Raises SilentError where `deadline_s` (time.monotonic) passes without any.
        """
        assert self._selector is not None
        left_s = deadline_s - time.monotonic()
        ready = self._selector.select(max(0.0, left_s))
        if not ready:
            raise SilentError(f"{self.name} gave no frame in time{self._reason()}: is the camera there and free?")
        self._listen()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        end = self._process.stderr
        said = end.read()
        if said == b"" and self._selector is not None and end.fileno() in self._selector.get_map():
            self._selector.unregister(end.fileno())
        self._complaints = (self._complaints + (said or b""))[-_COMPLAINT_BYTES:]

    def _wait_for_end(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return
        self._listen()

    def _reason(self) -> str:
        text = redact(self._complaints.decode("utf-8", "replace"))
        found = _COMPLAINT.search(text)
        return f" ({found[1].strip()})" if found else ""


def pipeline(text: str, patience: Patience) -> GstSource:
    """Return a source for `gst:PIPELINE`, named after its first element because the rest may hold a password."""
    words = text.removeprefix("gst:")
    try:
        first = shlex.split(words)[0]
    except (ValueError, IndexError):
        raise MistakeError(
            "gst: needs a pipeline with its quotes closed, such as gst:v4l2src ! image/jpeg ! jpegdec"
        ) from None
    return GstSource(f"pipeline of {redact(first)}", words, patience)


def argus(sensor: str, asked: CameraFormat, patience: Patience) -> GstSource:
    """Return a source for a Jetson's CSI camera, through Argus; not tested on hardware."""
    caps = "video/x-raw(memory:NVMM),format=NV12"
    if asked.size is not None:
        caps += f",width={asked.size[0]},height={asked.size[1]}"
    if asked.rate is not None:
        rate = Fraction(asked.rate).limit_denominator(1001)
        caps += f",framerate={rate.numerator}/{rate.denominator}"
    converted = "nvvidconv ! video/x-raw,format=I420"
    words = f"nvarguscamerasrc sensor-id={sensor} ! '{caps}' ! {converted}"
    return GstSource(f"CSI camera {sensor}", words, patience)
