"""Pictures of requests: what they are by their first bytes, and how they get into a block."""

from typing import TYPE_CHECKING, Any, Final

from agent.processes.slots.request_memory import BLOCK_BYTES
from agent.web.gateway.core.faults import RequestError, invalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEDIA: Final = ("image/jpeg", "image/png", "image/webp")
_CHANNELS: Final = 3
_MOST_PIXELS: Final = 10_000_000
"""A larger picture is scaled down before it is inferred; objects are told in its own pixels all the same."""
_LONGEST_SIDE: Final = 32_768


def media_of(content: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return MEDIA[0]
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return MEDIA[1]
    return MEDIA[2] if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ""


def decode(content: bytes, block: memoryview) -> tuple[tuple[int, int], tuple[int, int]]:
    """Decode a picture into a block as uint8 (height, width, 3) BGR; for a thread of its own.

    Returns height and width there, and those of the picture itself. Raises RequestError("invalid").
    """
    import cv2  # noqa: PLC0415 - 20 MB that only a gateway in use needs
    import numpy as np  # noqa: PLC0415 - the same

    try:
        image: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None  # larger than OPENCV_IO_MAX_IMAGE_PIXELS, or broken
    if image is None:
        raise invalid("the body is no picture that can be decoded, or one of too many pixels")
    return put(image, block)


def put(image: "NDArray[np.uint8]", block: memoryview) -> tuple[tuple[int, int], tuple[int, int]]:
    """Copy a picture (height, width, 3) into a block, smaller where it is too large; returns what `decode` does."""
    import cv2  # noqa: PLC0415 - as above
    import numpy as np  # noqa: PLC0415 - as above

    height, width = image.shape[:2]
    if max(height, width) > _LONGEST_SIDE:
        raise invalid(f"a picture of {width} x {height} is too large")
    size = (height, width)
    if height * width > _MOST_PIXELS:
        share = (_MOST_PIXELS / (height * width)) ** 0.5
        scaled = (max(1, int(width * share)), max(1, int(height * share)))
        image = cv2.resize(np.ascontiguousarray(image), scaled, interpolation=cv2.INTER_AREA).astype(
            np.uint8, copy=False
        )
    if image.nbytes > BLOCK_BYTES:
        raise RequestError("too_large", f"a picture of {width} x {height} is too large")
    np.frombuffer(block, np.uint8, image.nbytes).reshape(image.shape)[...] = image
    return (image.shape[0], image.shape[1]), size
