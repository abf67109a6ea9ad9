"""Checks of sources that are files, folders or cameras of this device."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from agent.files import open_regular
from agent.messages.texts.camera_names import is_camera, is_live, is_picture, split
from agent.settings import Finding, Settings

_EXPECTED: Final = "a video file or a folder of pictures"
_HEAD_BYTES: Final = 512
_PARTS_OF_A_URL: Final = 4
_NO_VIDEO: Final = (
    (b"version https://git-lfs", "a Git LFS pointer", "the video itself: `git lfs pull`"),
    (b"<!doctype", "a web page", "a video: what was downloaded is a page (a login, an error?)"),
    (b"<html", "a web page", "a video: what was downloaded is a page (a login, an error?)"),
)
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+(:\d+)?|(rtsps?|https?):?|[\w.@:-]+:\d+", re.IGNORECASE)


def source_mistakes(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each file or folder that cannot be a stream's source."""
    for index, stream in enumerate(settings.stream):
        if not is_live(stream.source):
            fault = _fault(Path(stream.source))
            if fault is not None:
                yield Finding(("stream", index, "source"), *fault)


def missing_cameras(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the id and the device path of each stream whose local camera is not connected now."""
    for stream in settings.stream:
        if is_camera(stream.source) and stream.source.startswith("/dev/"):
            camera, _ = split(stream.source)
            if not Path(camera).exists():
                yield stream.id, camera


def _fault(path: Path) -> tuple[str, str] | None:
    try:
        if path.is_dir():
            has_pictures = any(is_picture(inner) for inner in path.iterdir())
            return None if has_pictures else (f"the folder {path}, which holds no picture", _EXPECTED)
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return f"no file {path}", _wanted(path)
    except (OSError, ValueError) as error:
        return f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}", f"{_EXPECTED} that can be read"
    if not head:
        return f"{path}, which is empty", "a video: copy the file again"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for begin, what, wanted in _NO_VIDEO:
        if start.startswith(begin):
            return f"{path}, which is {what}", wanted
    return None


def _wanted(path: Path) -> str:
    if any(_ADDRESS.fullmatch(part) for part in path.parts[-_PARTS_OF_A_URL:]):
        return f"rtsp:// or http:// before an address in the network, or {_EXPECTED}"
    if path.name.isdecimal():
        return f"/dev/video{path.name} for a camera of this device, or {_EXPECTED}"
    try:
        names = [inner.name for inner in path.parent.iterdir()]
    except OSError:
        return f"{_EXPECTED}: there is no folder {path.parent}"
    alike = get_close_matches(path.name, names, 1)
    return f"{_EXPECTED}, such as {path.parent / alike[0]}" if alike else _EXPECTED
