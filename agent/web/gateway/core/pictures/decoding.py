"""Pictures into a block, as the worker takes them: uint8 (height, width, 3) BGR. For threads.

Import it when there is a picture: it loads Pillow, 2 MB that only a gateway in use needs.
"""

import re
import struct
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from io import BytesIO
from threading import Lock
from typing import Final

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.pictures.headers import JPEG, PNG, WEBP, broken, media_of, require_small, size_of

_MOST_PIXELS: Final = 10_000_000
"""A larger picture is scaled down before it is inferred; objects are told in its own pixels all the same."""
_MOST_PIXELS_BESIDE: Final = 3_000_000
"""Larger pictures are decoded one at a time."""
_ALONE: Final = Lock()
"""Held while a picture of more than _MOST_PIXELS_BESIDE is decoded, because each takes up to hundreds of MB."""


class _JpegFile(JpegImageFile):
    """A JPEG whose EXIF Pillow does not parse: older ones copy what its entries point at, as often as they do."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


_OPENERS: Final[dict[str, Callable[[BytesIO], Image.Image]]] = {
    JPEG: _JpegFile,
    PNG: PngImageFile,
    WEBP: WebPImageFile,
}
"""These alone, because Image.open tries formats that nobody asked for."""
_EXIF: Final = re.compile(rb"(?:Exif\0\0){0,2}(II\*\0|MM\0\*)", re.DOTALL)
"""First bytes of EXIF: names of the containers, which Pillow leaves in it, and the order of its bytes."""
_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = 1
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Turns that make a picture upright, by EXIF's orientation."""
_ON_ITS_SIDE: Final = 5
"""Orientations from this on exchange width and height."""
_DEEP: Final = "I;16"
"""Pillow's mode of a PNG with one channel of 16 bits."""
_SCALED_FIRST: Final = ("L", "CMYK")
"""Modes that are scaled down before they are converted, because there would be two large pictures."""
_Size = tuple[int, int]

warnings.filterwarnings("ignore", module=r"PIL\.")  # because each broken file would write a line


def decode(content: bytes, block: memoryview) -> tuple[_Size, _Size]:
    """Decode a JPEG, PNG or WebP into a block; up to 10 million pixels they are those of OpenCV, EXIF's turn included.

    Returns height and width there, and those of the picture itself. Raises RequestError("invalid").
    """
    size = size_of(content)
    with _ALONE if size[0] * size[1] > _MOST_PIXELS_BESIDE else nullcontext():
        try:
            image, orientation = _decoded(content, size)
        except RequestError:
            raise
        except Exception:  # noqa: BLE001 - Pillow raises nearly anything for foreign bytes
            raise broken() from None
        return _place(image, block, size if orientation < _ON_ITS_SIDE else (size[1], size[0]))


def put(pixels: bytes | memoryview, size: _Size, block: memoryview) -> tuple[_Size, _Size]:
    """Copy RGB pixels of (width, height) into a block; returns and raises what `decode` does."""
    require_small(size)
    return _place(_no_larger(Image.frombytes("RGB", size, pixels)), block, size)


def _decoded(content: bytes, size: _Size) -> tuple[Image.Image, int]:
    """Return a picture as RGB, upright and no larger than it is inferred, and the orientation that it had."""
    image = _OPENERS[media_of(content)](BytesIO(content))
    if image.size != size:  # because it would be larger than what was allowed
        raise broken()
    if _is_large(size):
        image.draft(None, _scaled(size))  # a large JPEG decodes to a half or a quarter
    image.load()
    orientation = _orientation_of(image.info.get("exif", b""))
    if image.mode == _DEEP:
        image = Image.frombytes("L", image.size, image.tobytes()[1::2])  # the high bytes, because convert() clips
    if image.mode in _SCALED_FIRST:
        image = _no_larger(image)
    image = _no_larger(image if image.mode == "RGB" else image.convert("RGB"))
    return (image.transpose(_TURNS[orientation]) if orientation in _TURNS else image), orientation


def _orientation_of(exif: object) -> int:
    """Return the orientation that the first directory of EXIF states; one that cannot be read is upright.

    As OpenCV does, it takes the first such entry, and does not ask for its type.
    """
    if not isinstance(exif, bytes):  # a PNG's text may have that name
        return _UPRIGHT
    found = _EXIF.match(exif)
    if found is None:
        return _UPRIGHT
    order = "<" if found[1].startswith(b"I") else ">"
    start = found.start(1)
    with suppress(struct.error):  # a damaged one spoils no picture
        at = start + struct.unpack_from(order + "4xI", exif, start)[0]
        for entry in range(struct.unpack_from(order + "H", exif, at)[0]):
            tag, value = struct.unpack_from(order + "H6xH", exif, at + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if value in _TURNS else _UPRIGHT
    return _UPRIGHT


def _place(image: Image.Image, block: memoryview, size: _Size) -> tuple[_Size, _Size]:
    """Copy an RGB picture into a block; `size` is width and height before it was scaled down."""
    pixels = image.tobytes("raw", "BGR")
    block[: len(pixels)] = pixels
    return (image.height, image.width), (size[1], size[0])


def _no_larger(image: Image.Image) -> Image.Image:
    return image.resize(_scaled(image.size), Image.Resampling.BOX) if _is_large(image.size) else image


def _is_large(size: _Size) -> bool:
    return size[0] * size[1] > _MOST_PIXELS


def _scaled(size: _Size) -> _Size:
    """Return the width and height at which a large picture is inferred."""
    share = (_MOST_PIXELS / (size[0] * size[1])) ** 0.5
    return max(1, int(size[0] * share)), max(1, int(size[1] * share))
