"""Encodes frames as JPEG for people who look, on a thread with a low priority; nobody looking costs nothing."""

import logging
import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.processes.slots.picture_link import Picture, PictureSender, Size

_log: Final = logging.getLogger(__name__)
_QUALITIES: Final = (78, 66, 55, 42, 30, 20, 12)
"""JPEG qualities. From one to the next a file loses less than 40 % of its bytes."""
_STEP: Final = 0.8
"""Part of a file's bytes that remains at the next quality, in most scenes."""
_TOO_LARGE: Final = 1.3
"""A file of more than the wanted bytes times this is encoded once more: a slow link would be late by seconds."""
_ROOM: Final = 0.6
"""Part of the wanted bytes below which the next better quality is sure to fit."""
_NICE: Final = 10
_REST: Final = 0.25
"""Part of the time between two frames that a picture waits: the line begins with its frame at once."""
_LONGEST_REST_S: Final = 0.05
_Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Job:
    image: _Image
    """Large enough for the largest of the sizes."""
    frame: int
    captured_unix_ns: int
    sizes: frozenset[Size]
    due_s: float
    """Time at which it may be encoded (monotonic)."""


class PictureEncoder:
    """Answers requests for pictures with the next frame; `offer` and `stop` are for the camera's thread."""

    def __init__(self, sender: PictureSender) -> None:
        self._sender: Final = sender
        self._job: _Job | None = None
        self._wanted: Final[set[Size]] = set()
        self._last_ns = 0
        """Time of the last frame (Unix)."""
        self._is_stopping = False
        self._changed: Final = threading.Condition()
        self._thread: Final = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._files: Final = {size: FileSizes(size.wanted_bytes) for size in Size}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close the link's end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()
        self._sender.close()

    def offer(self, image: _Image, frame: int, captured_unix_ns: int) -> None:
        """Take a frame where a picture is wanted and no other is being encoded; the image is copied.

        `image`: (height, width, 3) uint8 BGR, which may change after this call.
        """
        rest_s = min(_REST * (captured_unix_ns - self._last_ns) / 1e9, _LONGEST_REST_S)
        self._last_ns = captured_unix_ns
        self._wanted.update(self._sender.asked())
        if not self._wanted or self._job is not None:
            return
        small = scaled(image, max(self._wanted))
        own = image.copy() if small is image else small
        with self._changed:
            self._job = _Job(own, frame, captured_unix_ns, frozenset(self._wanted), time.monotonic() + rest_s)
            self._changed.notify()
        self._wanted.clear()

    def _run(self) -> None:
        with suppress(OSError):  # because a picture for people may wait, and a line may not
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job is not None or self._is_stopping)
                if self._is_stopping or self._job is None:
                    return
                job = self._job
                if self._changed.wait_for(lambda: self._is_stopping, max(0.0, job.due_s - time.monotonic())):
                    return
            try:
                self._send(job)
            except Exception:  # noqa: BLE001 - the thread's edge: a camera does not end because of a picture
                _log.exception("event=picture_failed frame=%d", job.frame)
            self._job = None

    def _send(self, job: _Job) -> None:
        for size in sorted(job.sizes, reverse=True):
            image = scaled(job.image, size)
            height, width = image.shape[:2]
            jpeg = self._files[size].encode(image)
            self._sender.send(Picture(job.frame, job.captured_unix_ns, width, height, jpeg, size))


class FileSizes:
    """Encodes the images of one stream, and finds the quality at which they have the wanted size."""

    def __init__(self, wanted_bytes: int) -> None:
        self._wanted_bytes: Final = wanted_bytes
        self._at = 0
        """Index of the quality for the next image: one step better or worse than the last, as that one's file tells."""

    def encode(self, image: _Image) -> bytes:
        """Return an image as a JPEG file of about the wanted bytes, where a quality gets it there."""
        last = len(_QUALITIES) - 1
        data = self._file(image)
        while len(data) > _TOO_LARGE * self._wanted_bytes and self._at < last:
            steps = int(math.log(len(data) / self._wanted_bytes) / -math.log(_STEP))
            self._at = min(self._at + max(1, steps), last)
            data = self._file(image)
        if len(data) > self._wanted_bytes:
            self._at = min(self._at + 1, last)
        elif len(data) < _ROOM * self._wanted_bytes:
            self._at = max(self._at - 1, 0)
        return data

    def _file(self, image: _Image) -> bytes:
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITIES[self._at]])[1].tobytes()


def scaled(image: _Image, size: Size) -> _Image:
    """Return an image in a size in which pictures are shown; the same one where it is no larger."""
    height, width = image.shape[:2]
    scale = size.longest_side / max(height, width)
    if scale >= 1:
        return image
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: _Image = np.asarray(cv2.resize(image, new, interpolation=cv2.INTER_AREA), np.uint8)
    return small
