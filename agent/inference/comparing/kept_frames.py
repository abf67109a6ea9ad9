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
    deleted; with a limit of 0 bytes everything is. Without a disk that takes or gives up files, frames are left out.
    """

    def __init__(self, folder: Path, limit_bytes: int, of: str) -> None:
        """Store the arguments; `of` names the comparison."""
        self._folder: Final = folder
        self._limit_bytes: Final = limit_bytes
        self._of: Final = of
        self._sizes: Final[dict[str, int]] = {}
        """Bytes of each kept frame, by name."""
        self._takes_frames = False

    def start(self) -> None:
        """Find what this comparison kept before, within the limit, and delete every other file of the folder."""
        if not self._limit_bytes and not self._folder.exists():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            is_clean = self._clean()
            while self._sizes and (len(self._sizes) > _MOST or self._held_bytes() > self._limit_bytes):
                self._drop(min(self._sizes))
            if is_clean and self._limit_bytes:
                (self._folder / KEPT_OF).write_text(self._of, encoding="utf-8")
                self._takes_frames = True
        except OSError as error:
            self._warn("frames_not_kept", error)

    def offer(
        self, distance: float, frame: KeptFrame, pixels: NDArray[np.uint8], answers: tuple[FrameAnswer, FrameAnswer]
    ) -> None:
        """Keep a frame, uint8 (h, w, 3) BGR, where it is among the most different ones."""
        name = f"{min(int(distance * 1000), 999_999_999):09d}-{frame.stream}-{frame.frame}"
        if not self._takes_frames or name in self._sizes:
            return
        if len(self._sizes) >= _MOST and name < min(self._sizes):
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

    def _clean(self) -> bool:
        """Note this comparison's whole frames and delete the other files; return False where one cannot be deleted."""
        note = self._folder / KEPT_OF
        if not self._limit_bytes or not _says(note, self._of):
            files = [note, *self._files()]  # the note first, so that what stays is no comparison's
        else:
            files = self._files()
            names = {file.name for file in files}
            for file in files:
                picture = file.with_suffix(".jpg")
                if _NAME.fullmatch(file.name) and picture.name in names:
                    self._sizes[file.stem] = file.stat().st_size + picture.stat().st_size
            files = [file for file in files if file != note and file.stem not in self._sizes]
        deleted = [self._is_deleted(file) for file in files]  # each one, also behind one that stays
        return all(deleted)

    def _files(self) -> list[Path]:
        return [file for file in self._folder.iterdir() if file.is_symlink() or not file.is_dir()]

    def _is_deleted(self, file: Path) -> bool:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            self._warn("frame_not_deleted", error)
            return False
        return True

    def _write(self, name: str, picture: bytes, answers: bytes) -> None:
        size_bytes = len(picture) + len(answers)
        least = self._displaced(name, size_bytes)
        if least is None:
            return
        files = [self._folder / f"{name}.jpg", self._folder / f"{name}.json"]
        try:
            for one in least:
                self._drop(one)
            for file, data in zip(files, (picture, answers), strict=True):
                file.write_bytes(data)
            self._sizes[name] = size_bytes
        except OSError as error:
            self._warn("frame_not_kept", error)
            for file in files:
                self._is_deleted(file)

    def _displaced(self, name: str, size_bytes: int) -> list[str] | None:
        """Return the less different frames whose place a frame needs; None where they do not suffice."""
        least: list[str] = []
        room_bytes = self._limit_bytes - self._held_bytes()
        for one in sorted(self._sizes):
            if len(self._sizes) - len(least) < _MOST and size_bytes <= room_bytes:
                break
            if one > name:
                return None
            least.append(one)
            room_bytes += self._sizes[one]
        return least if size_bytes <= room_bytes else None

    def _drop(self, name: str) -> None:
        for suffix in (".json", ".jpg"):
            (self._folder / f"{name}{suffix}").unlink(missing_ok=True)
        del self._sizes[name]

    def _held_bytes(self) -> int:
        return sum(self._sizes.values())

    def _warn(self, event: str, error: OSError) -> None:
        _LOG.warning("event=%s folder=%s detail=%r", event, self._folder, str(error))


def _says(note: Path, of: str) -> bool:
    try:
        return note.read_bytes() == of.encode()
    except OSError:
        return False
