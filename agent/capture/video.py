"""V4L2 devices, and GStreamer pipelines where cv2 supports them, through cv2.VideoCapture."""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from agent.capture.source import Buffer, Image, Patience, SilentError, SourceInfo
from agent.messages.errors import MistakeError, TransientError
from agent.messages.texts.camera_names import CameraFormat
from agent.redact import redact

TIMEOUT_S: Final = 2.0
_SILENT_S: Final = 0.9 * TIMEOUT_S
"""A grab that fails sooner than this did not time out, so its source is broken."""
_CHANNELS_BGR: Final = 3
_PROC: Final = Path("/proc")
_NAMED: Final = 4
"""Limit of the processes that an error names as users of a device."""


class VideoSource:
    """Source read by cv2.VideoCapture; for one thread."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], cv2.VideoCapture],
        advice: Callable[[], str],
        *,
        live: bool,
        waits: bool = False,
    ) -> None:
        """Store the parameters; `connect` opens the capture, and may itself raise an error.

        `advice` returns what people can do where opening or reading fails. `waits`: the source can still be read after
        a timeout.
        """
        self.name = name
        self.live = live
        self._connect: Final = connect
        self._advice: Final = advice
        self._waits: Final = waits
        self._capture: cv2.VideoCapture | None = None
        self._size = (1, 1)
        self._frames = 0

    def open(self) -> SourceInfo:
        """Open within about 2 s; the first frame corrects the size that the driver states."""
        capture = self._connect()
        if not capture.isOpened():
            raise TransientError(f"cannot open {self.name}: {self._advice()}")
        self._capture = capture
        self._frames = 0
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._size = (max(1, height), max(1, width))
        return SourceInfo(width=width, height=height, fps=capture.get(cv2.CAP_PROP_FPS))

    def grab(self) -> bool:
        """Wait for a frame; False at the end of a file.

        Raises TransientError where a live source gives no frame within about 2 s, or a file has none.
        """
        assert self._capture is not None
        begun_s = time.monotonic()
        if self._capture.grab():
            self._frames += 1
            return True
        waited_s = time.monotonic() - begun_s
        if self.live:
            kind = SilentError if self._waits and waited_s >= _SILENT_S else TransientError
            raise kind(f"{self.name} gave no frame for {max(TIMEOUT_S, waited_s):.0f} s, or ended: {self._advice()}")
        if not self._frames:
            raise TransientError(f"{self.name} holds no frame that can be read: put a whole video there")
        return False

    def retrieve(self, buffer: Buffer) -> None:
        """Decode the grabbed frame into an array from `buffer`; a frame whose size changed costs one copy."""
        assert self._capture is not None
        view = buffer(*self._size)
        good, image = self._capture.retrieve(view)
        if not good:
            raise TransientError(f"{self.name} gave a frame that cannot be decoded")
        if image is view:
            return
        # Compared, because cv2 silently returns an array of its own where the given one does not fit.
        frame = _bgr(np.asarray(image), self.name)
        self._size = (frame.shape[0], frame.shape[1])
        np.copyto(buffer(*self._size), frame)

    def close(self) -> None:
        """Release the capture; idempotent."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None


def device(path: str, asked: CameraFormat) -> VideoSource:
    """Return a source for a V4L2 device.

    Its `open` raises MistakeError where the driver does not accept the requested format.
    """
    return VideoSource(
        f"device {path}", lambda: _connect_device(path, asked), lambda: _fault_of(path), live=True, waits=True
    )


def _fault_of(path: str) -> str:
    """Return which processes use the device; without any, what else may be wrong."""
    holders = holders_of(path)
    if holders:
        return f"it is in use by {', '.join(holders)}; a camera serves one program at a time"
    return f"is it plugged in, does it capture (v4l2-ctl --list-devices), and who uses it (sudo fuser -v {path})?"


def has_gstreamer() -> bool:
    """Return True where this build of cv2 reads GStreamer pipelines, as JetPack's does."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def gst_pipeline(text: str, patience: Patience) -> VideoSource:
    """Return a source for `gst:PIPELINE` through cv2; not tested, for want of such a cv2."""
    words = text.removeprefix("gst:")
    tail = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    advice = "is it still sending? Try the pipeline with gst-launch-1.0 and fakesink"
    name = f"pipeline of {redact(words.split()[0])}"

    def connect() -> cv2.VideoCapture:
        return cv2.VideoCapture(f"{words} ! {tail}", cv2.CAP_GSTREAMER, _flat(_timeouts(patience)))

    return VideoSource(name, connect, lambda: advice, live=True, waits=True)


def _timeouts(patience: Patience) -> tuple[tuple[int, int], ...]:
    open_ms, read_ms = int(patience.open_s * 1000), int(patience.read_s * 1000)
    return (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms), (cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms)


def _flat(pairs: Iterable[tuple[int, int]]) -> list[int]:
    return [word for pair in pairs for word in pair]


def _connect_device(path: str, asked: CameraFormat) -> cv2.VideoCapture:
    if not Path(path).exists():
        raise TransientError(f"there is no {path}: is the camera plugged in? `ls /dev/video*` shows those that are")
    if not os.access(path, os.R_OK | os.W_OK):
        raise TransientError(f"no permission to use {path}: add the service's user to the group `video`")
    wanted = v4l2_properties(asked)
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2, _flat(wanted))
    different = [(key, value) for key, value in wanted if capture.isOpened() and round(capture.get(key)) != value]
    if different:
        capture.release()
        if holders_of(path):
            raise TransientError(f"cannot open device {path}: {_fault_of(path)}")
        raise MistakeError(
            f"device {path} does not give the format, size and rate that `source` asks of it: "
            f"`v4l2-ctl --list-formats-ext -d {path}` shows what it can"
        )
    return capture


def v4l2_properties(asked: CameraFormat) -> list[tuple[int, int]]:
    """Return cv2's properties for `asked`, in the order that drivers require: format, size, rate."""
    wanted = []
    if asked.pixel_format is not None:
        wanted.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*asked.pixel_format.ljust(4))))
    if asked.size is not None:
        wanted += [(cv2.CAP_PROP_FRAME_WIDTH, asked.size[0]), (cv2.CAP_PROP_FRAME_HEIGHT, asked.size[1])]
    if asked.rate is not None:
        wanted.append((cv2.CAP_PROP_FPS, round(asked.rate)))
    return wanted


def _bgr(image: Image, name: str) -> Image:
    if image.dtype != np.uint8:
        raise MistakeError(f"{name} gives {image.dtype} pixels: set it to an 8-bit format")
    if image.ndim == _CHANNELS_BGR and image.shape[2] == _CHANNELS_BGR:
        return image
    code = cv2.COLOR_BGRA2BGR if image.ndim == _CHANNELS_BGR and image.shape[2] > 1 else cv2.COLOR_GRAY2BGR
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def holders_of(path: str) -> list[str]:
    """Return `NAME (process PID)` of other processes that hold the character device `path`, at most four.

    Processes of other users are seen by root alone, and by nobody behind ProtectProc=invisible.
    """
    try:
        device = Path(path).stat()
    except OSError:
        return []
    if not stat.S_ISCHR(device.st_mode):
        return []
    found = (pid for pid in _processes() if pid != os.getpid() and _holds(pid, device.st_rdev))
    return [f"{_name(pid)} (process {pid})" for pid in islice(found, _NAMED)]


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _holds(pid: int, number: int) -> bool:
    try:
        entries = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    return any(_device_of(entry) == number for entry in entries)


def _device_of(entry: Path) -> int | None:
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_rdev if stat.S_ISCHR(status.st_mode) else None


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a process"
