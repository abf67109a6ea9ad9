"""Keeps the most different frames of a comparison as pictures, with both answers."""

import logging
import re
from pathlib import Path
from typing import Final

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.inference.comparing.matching import FrameAnswer
from agent.messages.canary import KEPT_OF, KeptFrame

_LOG: Final = logging.getLogger(__name__)
_MOST: Final = 32
_NAME: Final = re.compile(r"[0-9]{9}-[A-Za-z0-9._-]+-[0-9]+\.json")
_JPEG_QUALITY: Final = 85


class FrameKeeper:
    """Keeper of at most 32 frames within a number of bytes; for one thread.

    A frame is a JPEG beside a JSON file of the same name, `DISTANCE-STREAM-FRAME`. What another comparison left is
    deleted; with a limit of 0 bytes everything is. Without a disk that takes them, frames are left out.
    """

    def __init__(self, folder: Path, limit_bytes: int, of: str) -> None:
        """Store the arguments; `of` names the comparison."""
        self._folder: Final = folder
        self._limit_bytes: Final = limit_bytes
        self._of: Final = of
        self._sizes: Final[dict[str, int]] = {}
        """Bytes of each kept frame, by name."""

    def start(self) -> None:
        """Make the folder, and find what this comparison kept before."""
        if not self._limit_bytes and not self._folder.exists():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            note = self._folder / KEPT_OF
            is_same = self._limit_bytes > 0 and note.exists() and note.read_text(encoding="utf-8") == self._of
            for file in self._folder.iterdir():
                if not is_same:
                    file.unlink()
                elif _NAME.fullmatch(file.name):
                    self._sizes[file.stem] = file.stat().st_size + _size_of(file.with_suffix(".jpg"))
            if self._limit_bytes:
                note.write_text(self._of, encoding="utf-8")
        except OSError as error:
            _LOG.warning("event=frames_not_kept folder=%s detail=%r", self._folder, str(error))

    def offer(
        self, distance: float, frame: KeptFrame, pixels: NDArray[np.uint8], answers: tuple[FrameAnswer, FrameAnswer]
    ) -> None:
        """Keep a frame, uint8 (h, w, 3) BGR, where it is among the most different ones."""
        name = f"{min(int(distance * 1000), 999_999_999):09d}-{frame.stream}-{frame.frame}"
        if not self._limit_bytes or (len(self._sizes) >= _MOST and name <= min(self._sizes)):
            return
        stable, candidate = answers
        whole = msgspec.structs.replace(
            frame,
            stable=stable.objects,
            candidate=candidate.objects,
            stable_top=stable.top,
            candidate_top=candidate.top,
        )
        done, picture = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if done:
            self._write(name, picture.tobytes(), msgspec.json.encode(whole))

    def _write(self, name: str, picture: bytes, answers: bytes) -> None:
        try:
            size_bytes = len(picture) + len(answers)
            while self._sizes and (len(self._sizes) >= _MOST or self._held_bytes() + size_bytes > self._limit_bytes):
                least = min(self._sizes)
                if least >= name:
                    return
                self._drop(least)
            if size_bytes > self._limit_bytes:
                return
            (self._folder / f"{name}.jpg").write_bytes(picture)
            (self._folder / f"{name}.json").write_bytes(answers)
            self._sizes[name] = size_bytes
        except OSError as error:
            _LOG.warning("event=frame_not_kept folder=%s detail=%r", self._folder, str(error))

    def _drop(self, name: str) -> None:
        for suffix in (".json", ".jpg"):
            (self._folder / f"{name}{suffix}").unlink(missing_ok=True)
        del self._sizes[name]

    def _held_bytes(self) -> int:
        return sum(self._sizes.values())


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
