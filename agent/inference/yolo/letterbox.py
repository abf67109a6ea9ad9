"""Letterbox as in ultralytics: fits a picture into a model's input, and maps boxes and points back to the picture."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

PAD: Final = 114
_MUCH: Final = 1.5
"""Factor of shrinking from which on distant pixels are averaged with less weight."""
_TENT: Final = np.array([0.25, 0.5, 0.25])
_NUDGE: Final = 0.1  # LetterBox of ultralytics: an odd row of padding goes below, an odd column to the right


class Fit(Enum):
    """Placement of a picture in an input of another shape."""

    CENTRED = "scaled, with grey around it (ultralytics)"
    CORNER = "scaled, with grey to the right and below (YOLOX)"
    STRETCHED = "stretched over all of it (RT-DETR)"
    COVERING = "scaled to cover it, with what is beyond cut off (classification)"


@dataclass(frozen=True)
class Placement:
    """Position of a picture in a model's input."""

    width: int
    """Width of the picture in pixels."""
    height: int
    """Height of the picture in pixels."""
    gain: float
    """Scale from the picture to the input."""
    left: int
    """Columns of padding to the left of the scaled picture."""
    top: int
    """Rows of padding above the scaled picture."""
    fills: tuple[int, int] | None = None
    """Width and height that the picture is stretched to; None: `gain` applies."""

    @classmethod
    def of(cls, picture: tuple[int, int], imgsz: tuple[int, int], fit: Fit = Fit.CENTRED) -> "Placement":
        """Compute the position of a picture in an input, both as (height, width)."""
        (height, width), (rows, columns) = picture, imgsz
        if fit is Fit.STRETCHED:
            return cls(width, height, 1.0, 0, 0, (columns, rows))
        if fit is Fit.COVERING:
            gain = max(rows / height, columns / width)
            is_wide = rows * width >= columns * height
            # Whole numbers, because torchvision rounds `size * long / short` down, and a gain was rounded before.
            wide, high = (rows * width // height, rows) if is_wide else (columns, columns * height // width)
            return cls(width, height, gain, -round((wide - columns) / 2), -round((high - rows) / 2), (wide, high))
        gain = min(rows / height, columns / width)
        if fit is Fit.CORNER:
            return cls(width, height, gain, 0, 0)
        left = round((columns - round(width * gain)) / 2 - _NUDGE)
        top = round((rows - round(height * gain)) / 2 - _NUDGE)
        return cls(width, height, gain, left, top)

    @property
    def scaled(self) -> tuple[int, int]:
        """Width and height of the scaled picture in pixels, at least 1."""
        return self.fills or (max(1, round(self.width * self.gain)), max(1, round(self.height * self.gain)))

    def to_picture(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes (n, 4) in pixels of the input to pixels of the picture, clipped to it; return a new array."""
        return self.within(self.points(boxes.reshape(-1, 2, 2))).reshape(-1, 4)

    def points(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) in pixels of the input to pixels of the picture, also beyond it; return a new array."""
        moved: NDArray[np.float32] = (points - np.array((self.left, self.top), np.float32)) / self._gains
        return moved

    def within(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clip points (..., 2) in pixels of the picture to it, in place."""
        return np.clip(points, np.float32(0), np.array((self.width, self.height), np.float32), out=points)

    def shows(self, points: NDArray[np.float32]) -> bool:
        """Return False where points (n, 2) in pixels of the picture all lie on or beyond one of its sides."""
        low, high = points.min(axis=0), points.max(axis=0)
        return bool((high > 0).all() and (low < (self.width, self.height)).all())

    @property
    def _gains(self) -> NDArray[np.float32]:
        """Scale of x and y from the picture to the input."""
        wide, high = self.fills or (self.gain * self.width, self.gain * self.height)
        return np.array((wide / self.width, high / self.height), np.float32)


class Canvas:
    """A reusable input buffer, uint8 (height, width, 3) BGR, for one thread at a time."""

    def __init__(self, imgsz: tuple[int, int], pixels: NDArray[np.uint8] | None = None) -> None:
        """Use `pixels`, uint8 (height, width, 3), as the buffer; None: allocate one of the size `imgsz`."""
        self.pixels: Final[NDArray[np.uint8]] = np.empty((*imgsz, 3), np.uint8) if pixels is None else pixels
        self.pixels.fill(PAD)
        self._imgsz: Final = imgsz
        self._last: Placement | None = None

    def draw(self, picture: NDArray[np.uint8], fit: Fit = Fit.CENTRED) -> Placement:
        """Draw `picture`, uint8 (h, w, 3) BGR, into `pixels`; the caller may overwrite it after the call."""
        placement = Placement.of((picture.shape[0], picture.shape[1]), self._imgsz, fit)
        if placement != self._last:  # the padding of one camera's frames stays where it is
            self.pixels.fill(PAD)
            self._last = placement
        columns, rows = placement.scaled
        if fit is Fit.COVERING:
            _cover(picture, self.pixels, placement)
            return placement
        window = self.pixels[placement.top : placement.top + rows, placement.left : placement.left + columns]
        if picture.shape[:2] == (rows, columns):
            np.copyto(window, picture)
        else:
            _resize_into(picture, window)
        return placement


def _cover(picture: NDArray[np.uint8], pixels: NDArray[np.uint8], placement: Placement) -> None:
    """Scale the picture and keep its middle, averaging where it shrinks, as the resizing of Pillow does.

    Of a picture that grows, only what is kept is computed, because a very long one would grow to hundreds of megabytes.
    """
    (rows, columns), (wide, high) = pixels.shape[:2], placement.scaled
    if placement.gain * _MUCH <= 1:
        _shrink(picture, pixels, placement)
        return
    if placement.gain <= 1:
        scaled = cv2.resize(picture, placement.scaled, interpolation=cv2.INTER_AREA)
        np.copyto(pixels, scaled[-placement.top : rows - placement.top, -placement.left : columns - placement.left])
        return
    left, right, share = _neighbours(placement.width, wide, -placement.left, columns)
    above, below, lower = _neighbours(placement.height, high, -placement.top, rows)
    share, lower = share[:, np.newaxis], lower[:, np.newaxis, np.newaxis]
    kept = picture[above[0] : below[-1] + 1]
    across = kept[:, left] * (1 - share) + kept[:, right] * share
    scaled = across[above - above[0]] * (1 - lower) + across[below - above[0]] * lower
    np.rint(scaled, out=pixels, casting="unsafe")


def _shrink(picture: NDArray[np.uint8], pixels: NDArray[np.uint8], placement: Placement) -> None:
    """Average with weights that fall with the distance, as Pillow's bilinear resizing does, and only what is kept.

    The weights are a triangle as wide as two pixels of the input on either side. What is kept is shrunk by a whole
    number to about two pixels for one of the input, which is fast; then read at two points for one, of which 1, 2, 1
    make one.
    """
    (rows, columns), (wide, high) = pixels.shape[:2], placement.scaled
    across, down = placement.width / wide, placement.height / high
    whole = max(1, int(min(across, down) / 2))
    left, right = _span(placement.width, across, -placement.left, columns, whole)
    top, bottom = _span(placement.height, down, -placement.top, rows, whole)
    size = ((right - left) // whole, (bottom - top) // whole)
    kept = picture[top : top + size[1] * whole, left : left + size[0] * whole]
    small = cv2.resize(kept, size, interpolation=cv2.INTER_AREA) if whole > 1 else kept
    # Point i lies at the pixel i / 2 of the input, whose pixels begin at `placement`; centres lie half a pixel further.
    to_kept = np.array(
        [
            [across / 2 / whole, 0, (-placement.left * across - left) / whole - 0.5],
            [0, down / 2 / whole, (-placement.top * down - top) / whole - 0.5],
        ]
    )
    points = (2 * columns + 1, 2 * rows + 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(small, to_kept, points, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    smooth = cv2.sepFilter2D(fine, cv2.CV_8U, _TENT, _TENT)
    np.copyto(pixels, smooth[1::2, 1::2])


def _span(side: int, scale: float, begin: int, count: int, whole: int) -> tuple[int, int]:
    """Return first and last pixel of a side that `count` scaled pixels from `begin` on depend on."""
    first = max(0, int((begin - 1) * scale)) // whole * whole
    return first, min(side, int((begin + count + 1) * scale) + 1)


def _neighbours(
    side: int, scaled: int, begin: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the two pixels of a side between which each of `count` scaled pixels lies, and the second one's share."""
    at = np.clip((np.arange(begin, begin + count) + 0.5) * (side / scaled) - 0.5, 0, side - 1)
    first = at.astype(np.intp)
    return first, np.minimum(first + 1, side - 1), (at - first).astype(np.float32)


def _resize_into(picture: NDArray[np.uint8], window: NDArray[np.uint8]) -> None:
    scaled = cv2.resize(picture, (window.shape[1], window.shape[0]), dst=window, interpolation=cv2.INTER_LINEAR)
    if not np.may_share_memory(scaled, window):  # OpenCV answers with another array where it cannot write in place
        np.copyto(window, scaled)
