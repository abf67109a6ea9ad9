"""Folders of pictures and single pictures as sources."""

import re
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from agent.capture.source import Buffer, Image, SourceInfo, Warn
from agent.messages.errors import TransientError
from agent.messages.references import natural_key
from agent.messages.texts.camera_names import PICTURE_SUFFIXES, is_picture

_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xaeB`\x82"
_SCAN: Final = 0xDA
_END: Final = 0xD9
_AFTER_SCAN: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""Next marker in entropy-coded data: FF followed by neither 00 nor a restart marker (ITU-T T.81, B.1.1)."""


class PictureSource:
    """Pictures of a folder in natural order (2.jpg before 10.jpg), listed anew at each opening.

    A damaged picture is skipped, with one warning for as long as it stays in the folder.
    """

    def __init__(self, path: Path, warn: Warn) -> None:
        self.name = f"folder {path}" if path.is_dir() else f"picture {path}"
        self.live = False
        self._path: Final = path
        self._warn: Final = warn
        self._left: list[Path] = []
        self._bad: set[Path] = set()
        self._ahead: Image | None = None
        self._image: Image | None = None

    def open(self) -> SourceInfo:
        """List the pictures and decode the first good one; raises TransientError where there is none."""
        paths = self._list()
        if not paths:
            raise TransientError(f"{self.name} holds no picture: put {', '.join(sorted(PICTURE_SUFFIXES))} files there")
        self._bad.intersection_update(paths)
        self._left = paths[::-1]
        self._ahead = self._decode_next()
        if self._ahead is None:
            raise TransientError(f"{self.name} holds no picture that can be read: replace the damaged files")
        height, width = self._ahead.shape[:2]
        return SourceInfo(width=width, height=height, fps=0.0)

    def grab(self) -> bool:
        """Decode the next good picture; False after the last."""
        self._image = self._decode_next() if self._ahead is None else self._ahead
        self._ahead = None
        return self._image is not None

    def retrieve(self, buffer: Buffer) -> None:
        """Copy the decoded picture into an array from `buffer`."""
        assert self._image is not None
        np.copyto(buffer(self._image.shape[0], self._image.shape[1]), self._image)

    def close(self) -> None:
        """Drop the decoded pictures."""
        self._left, self._ahead, self._image = [], None, None

    def _list(self) -> list[Path]:
        try:
            found = list(self._path.iterdir()) if self._path.is_dir() else [self._path]
        except OSError as error:
            raise TransientError(f"{self.name} cannot be listed: {error.strerror}") from error
        pictures = [path for path in found if is_picture(path) and not path.name.startswith(".")]
        return sorted(pictures, key=lambda path: natural_key(path.name))

    def _decode_next(self) -> Image | None:
        while self._left:
            path = self._left.pop()
            image = _decode(path)
            if image is not None:
                self._bad.discard(path)
                return image
            if path not in self._bad:
                self._bad.add(path)
                self._warn(f"{path} is left out: it is no whole picture that can be read")
        return None


def _decode(path: Path) -> Image | None:
    try:
        data = path.read_bytes()
        if not data or not is_whole(data):
            return None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # unreadable, or beyond cv2's own limits
        return None
    return None if image is None else np.asarray(image, np.uint8)


def is_whole(data: bytes) -> bool:
    """Return False for a truncated JPEG or PNG, because cv2 would fill its rest with grey."""
    if data.startswith(_JPEG):
        return _has_jpeg_end(data)
    return not data.startswith(_PNG) or _PNG_END in data


def _has_jpeg_end(data: bytes) -> bool:
    """Return True where the main image has an end marker; segments are walked because a thumbnail has its own."""
    at = len(_JPEG)
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # noqa: PLR2004 - what every marker begins with
            return False
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1
            continue
        if marker == _END:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                return False
            at = found.end() - 2
    return data[at : at + 2] == bytes((0xFF, _END))
