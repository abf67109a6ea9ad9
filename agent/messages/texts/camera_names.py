"""Kinds of `source`, and names of local cameras: `/dev/video0?format=MJPG&size=1280x720&rate=30`, `csi:0?size=...`.

The settings use these functions to report mistakes, and the camera process to open the camera.
"""

import re
from pathlib import PurePath
from typing import Final
from urllib.parse import parse_qsl

import msgspec

EXPECTED: Final = (
    "/dev/videoN or csi:N, with ?format=MJPG&size=1280x720&rate=30 or a part of that "
    "(a format of four characters, for /dev/ only; a size of even numbers; a rate in frames a second)"
)
PICTURE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_FILES: Final = "/dev/shm/"  # noqa: S108 - where nothing of ours is put, but others put videos
_PIXEL_FORMAT: Final = re.compile(r"[A-Z0-9]{2,4} {0,2}")
_SIZE: Final = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_RATE: Final = re.compile(r"\d{1,4}(\.\d+)?")


class CameraFormat(msgspec.Struct, frozen=True):
    """Requested camera format; None leaves a value to the driver. Sizes in pixels, `rate` in frames a second."""

    pixel_format: str | None = None
    size: tuple[int, int] | None = None
    rate: float | None = None


def is_camera(source: str) -> bool:
    """Return True where `source` names a local camera (/dev/..., csi:N); a path in /dev/shm is that of a file."""
    return source.startswith(("/dev/", "csi:")) and not source.startswith(_FILES)


def is_picture(path: PurePath) -> bool:
    """Return True where a file's suffix is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_encrypted(source: str) -> bool:
    """Return True where `source` is a network stream over TLS."""
    return source.lower().startswith(("rtsps://", "https://"))


def is_rtsp(source: str) -> bool:
    """Return True where `source` is an RTSP stream."""
    return source.lower().startswith(("rtsp://", "rtsps://"))


def is_live(source: str) -> bool:
    """Return True for a camera, pipeline or network stream, which goes on while nobody reads it; False for files."""
    return is_camera(source) or source.startswith("gst:") or "://" in source


def split(source: str) -> tuple[str, CameraFormat]:
    """Split a local camera's `source` into its name and the requested format. Raises ValueError for a wrong format."""
    camera, asked, query = source.partition("?")
    try:
        pairs = parse_qsl(query, strict_parsing=True) if asked else []
    except ValueError:
        raise ValueError(EXPECTED) from None
    keys = dict(pairs)
    if bool(asked) != bool(pairs) or len(keys) != len(pairs) or not keys.keys() <= {"format", "size", "rate"}:
        raise ValueError(EXPECTED)
    if "format" in keys and camera.startswith("csi:"):
        raise ValueError(EXPECTED)
    return camera, CameraFormat(_pixel_format(keys.get("format")), _size(keys.get("size")), _rate(keys.get("rate")))


def _pixel_format(text: str | None) -> str | None:
    if text is not None and not _PIXEL_FORMAT.fullmatch(text):
        raise ValueError(EXPECTED)
    return text


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) % 2 or int(match[2]) % 2:
        raise ValueError(EXPECTED)
    return int(match[1]), int(match[2])


def _rate(text: str | None) -> float | None:
    if text is not None and (not _RATE.fullmatch(text) or float(text) == 0):
        raise ValueError(EXPECTED)
    return None if text is None else float(text)
