"""Encodes frames as JPEG for people who look, on a thread with a low priority; nobody looking costs nothing."""

import logging
import os
import threading
from contextlib import suppress
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.processes.slots.picture_link import MOST_BYTES, Picture, PictureSender

_log: Final = logging.getLogger(__name__)
LONGEST_SIDE: Final = 960
"""Pixels; larger frames are scaled down for people."""
_QUALITIES: Final = (78, 55, 30, 12)
"""JPEG qualities, of which the first whose file is small enough is taken."""
_NICE: Final = 10
_Image = NDArray[np.uint8]


class PictureEncoder:
    """Answers requests for pictures with the next frame; `offer` and `stop` are for the camera's thread."""

    def __init__(self, sender: PictureSender) -> None:
        self._sender: Final = sender
        self._job: tuple[_Image, int, int] | None = None
        self._is_wanted = False
        self._is_stopping = False
        self._changed: Final = threading.Condition()
        self._thread: Final = threading.Thread(target=self._run, name="pictures", daemon=True)

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
        self._is_wanted = self._sender.is_asked() or self._is_wanted
        if not self._is_wanted or self._job is not None:
            return
        self._is_wanted = False
        with self._changed:
            self._job = (_small_copy(image), frame, captured_unix_ns)
            self._changed.notify()

    def _run(self) -> None:
        with suppress(OSError):  # because a picture for people may wait, and a line may not
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job is not None or self._is_stopping)
                if self._is_stopping or self._job is None:
                    return
                image, frame, captured_unix_ns = self._job
            try:
                jpeg = encode(image)
                height, width = image.shape[:2]
                self._sender.send(Picture(frame, captured_unix_ns, width, height, jpeg))
            except Exception:  # noqa: BLE001 - the thread's edge: a camera does not end because of a picture
                _log.exception("event=picture_failed frame=%d", frame)
            self._job = None


def encode(image: _Image) -> bytes:
    """Return an image as a JPEG file of at most MOST_BYTES, where a lower quality gets it there."""
    data = b""
    for quality in _QUALITIES:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= MOST_BYTES:
            break
    return data


def _small_copy(image: _Image) -> _Image:
    height, width = image.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        whole: _Image = image.copy()
        return whole
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: _Image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small
