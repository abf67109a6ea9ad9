"""Masks of a segmenting model, as polygons: cut to the object's box, scaled once, simplified to few points.

A mask is positive where a weighted sum of the model's prototypes is, scaled linearly to the input's pixels, as in
ultralytics. The outline runs where the sum is zero, between pixels, so that a polygon has the area of its mask.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from math import ceil, floor, sqrt
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.letterbox import Placement
from agent.inference.yolo.objects import Rings
from agent.messages.errors import ModelError

MOST_POINTS: Final = 64
"""Most points of a ring."""
MOST_RINGS: Final = 8
"""Most rings of an object, the largest ones."""
LEAST_PART: Final = 0.01
"""Least area of a ring as a share of the object's largest, because the specks of a ragged mask say nothing."""
_MOST_RINGS_OF_ALL: Final = 600
_MOST_POINTS_OF_ALL: Final = 6_000
"""Most points of one picture's polygons, because a message has a bound; a crowd's rings have fewer each."""
_FEWEST_POINTS: Final = 8
_MOST_PIXELS: Final = 8_000_000
"""Pixels that masks of one picture are scaled to; masks beyond it stay in the prototypes' own pixels."""
_MOST_OUTLINE: Final = 2048
"""Pixels of an outline that are simplified; of a longer one every second or third, because the time grows faster."""
_WITHIN: Final = 0.5
"""Largest distance of a simplified outline, in pixels of the picture or of the input, whichever are smaller."""
_WITHIN_OF_SIDE: Final = 0.005
"""The same as a share of an object's side, because half a pixel around is a tenth of a small part."""
_LEAST_WITHIN: Final = 0.15
_COARSER: Final = 1.7
_AT_ONCE: Final = 32
"""Objects whose sums and outlines are computed at once, because all of a crowd's would take much memory."""
_SMALL: Final = 0.25
"""Share of the prototypes' pixels up to which boxes are summed one by one: what lies outside of them is not needed."""
_CORNERS: Final = 3
_OF_WIDTH: Final = 0.4
"""Largest distance of a simplified outline as a share of its own width."""
_LEAST_AREA: Final = 0.5
"""Least area of a simplified ring, as a share of what it was."""
_HALF: Final = np.float32(0.5)

_Points = NDArray[np.float32]
_Pixels = NDArray[np.int32]
_Box = tuple[float, float, float, float]
_Corner = tuple[int, int]


class Masks:
    """The prototypes of one picture, float (n, rows, columns), and the input's height and width in pixels."""

    def __init__(self, prototypes: NDArray[np.floating], imgsz: tuple[int, int]) -> None:
        self._prototypes: Final = np.asarray(prototypes, np.float32)
        self._imgsz: Final = imgsz
        rows, columns = self._prototypes.shape[1:]
        self._cell: Final = (imgsz[0] / rows, imgsz[1] / columns)
        self._pixels_left = _MOST_PIXELS

    def polygons(self, shares: _Points, boxes: _Points, placement: Placement) -> list[Rings]:
        """Return the outer rings of each object, in pixels of the picture; none where its mask is empty.

        A ring that lies in the padding only is none, because it would be a line on the picture's edge.

        `shares` (objects, n) are the weights of the prototypes, `boxes` (objects, 4) corners in pixels of the input.
        A polygon is within a pixel of its mask's border unless that takes more than MOST_POINTS points. Parts of less
        than LEAST_PART are left out. Raises ModelError("proof_failed") where a mask holds NaN or infinity.
        """
        rings_each = max(1, min(MOST_RINGS, _MOST_RINGS_OF_ALL // max(1, len(boxes))))
        # ultralytics keeps the pixels that begin in the box: its mask ends where they do, up to a pixel further on
        corners = [(box[0], box[1], box[2], box[3]) for box in np.ceil(boxes).tolist()]
        windows = [self._window(box) for box in corners]
        fields = map(self._field, self._sums(shares, windows), windows, corners)
        outlines: list[list[_Points]] = []
        while some := list(islice(fields, _AT_ONCE)):
            outlines += _outlines(some, rings_each)
        count = sum(map(len, outlines))
        most_points = max(_FEWEST_POINTS, min(MOST_POINTS, _MOST_POINTS_OF_ALL // max(1, count)))
        most_within, coarser = min(_WITHIN, _WITHIN * placement.gain), MOST_POINTS / most_points
        withins = [max(_LEAST_WITHIN, min(most_within, _WITHIN_OF_SIDE * _side(box))) * coarser for box in corners]
        rings = [
            _simplified(ring, within, most_points)
            for own, within in zip(outlines, withins, strict=True)
            for ring in own
        ]
        if not rings:
            return [() for _ in outlines]
        placed = iter(np.split(placement.points(np.concatenate(rings)), _ends_of(rings)))
        return [
            tuple(placement.within(ring) for ring in islice(placed, len(own)) if placement.shows(ring))
            for own in outlines
        ]

    def _window(self, box: _Box) -> "_Window":
        """Return the prototypes' rows and columns that a box touches."""
        (high, wide), (rows, columns) = self._cell, self._prototypes.shape[1:]
        return _Window(*_span(box[1] / high, box[3] / high, rows), *_span(box[0] / wide, box[2] / wide, columns))

    def _sums(self, shares: _Points, windows: Sequence["_Window"]) -> Iterator[_Points]:
        """Yield the weighted sum of prototypes of each object in its window, some objects at a time."""
        flat = self._prototypes.reshape(len(self._prototypes), -1)
        for begin in range(0, len(shares), _AT_ONCE):
            some, theirs = shares[begin : begin + _AT_ONCE], windows[begin : begin + _AT_ONCE]
            with np.errstate(invalid="ignore", over="ignore"):  # a mask that is no number is refused
                if sum(window.cells for window in theirs) <= _SMALL * len(theirs) * flat.shape[1]:
                    found = [self._sum(one, window) for one, window in zip(some, theirs, strict=True)]
                else:
                    whole = (some @ flat).reshape(-1, *self._prototypes.shape[1:])
                    found = [window.of(one) for one, window in zip(whole, theirs, strict=True)]
            yield from found

    def _sum(self, shares: _Points, window: "_Window") -> _Points:
        part = window.of(self._prototypes)
        total: _Points = shares @ part.reshape(len(part), -1)
        return total.reshape(part.shape[1:])

    def _field(self, sums: _Points, window: "_Window", box: _Box) -> "_Field | None":
        """Scale an object's weighted sum in its window; return None where it is positive nowhere near the box."""
        (high, wide), (top, bottom, left, right) = self._cell, window
        if not window.cells or box[0] >= box[2] or box[1] >= box[3]:
            return None
        peak = sums.max()
        if not np.isfinite(peak):  # an object with such a mask would go unnoticed
            raise ModelError("proof_failed", "NaN or infinity among the masks")
        if peak <= 0:
            return None
        size = (round((right - left) * wide), round((bottom - top) * high))
        self._pixels_left -= size[0] * size[1]
        cells = _Field(sums, (left * wide, top * high), (wide, high), box)
        if self._pixels_left < 0 and cells.mask().any():
            return cells
        # Also beyond the bound where no cell is in the mask: what lies between cells is a small part at most.
        scaled = np.asarray(cv2.resize(sums, size, interpolation=cv2.INTER_LINEAR), np.float32)
        step = ((right - left) * wide / size[0], (bottom - top) * high / size[1])
        return cells._replace(sums=scaled, step=step, first=ceil)


def _side(box: _Box) -> float:
    """Return the side of a square that is as large as a box."""
    return sqrt(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]))


def _span(low: float, high: float, cells: int) -> tuple[int, int]:
    """Return the cells that a box's sides touch, with one more on each side, because scaling looks at neighbours."""
    return max(0, int(low - 0.5) - 1), min(cells, int(high + 0.5) + 2)


class _Window(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right` of the prototypes; the ends are beyond."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def cells(self) -> int:
        """Number of pixels; 0 where a box lies outside of the picture."""
        return max(0, self.bottom - self.top) * max(0, self.right - self.left)

    def of(self, planes: _Points) -> _Points:
        """Cut (..., rows, columns) to the window."""
        return planes[..., self.top : max(self.top, self.bottom), self.left : max(self.left, self.right)]


class _Field(NamedTuple):
    """A mask's weighted sum on a grid of pixels, whose upper left corner is at `origin` in pixels of the input."""

    sums: _Points
    origin: tuple[float, float]
    step: tuple[float, float]
    """Width and height of a grid's pixel, in pixels of the input."""
    box: _Box
    first: Callable[[float], int] = floor
    """Rounds the box's begin to a grid's pixel: of cells, the one that it lies in, because a box may lie in one."""

    def mask(self) -> NDArray[np.uint8]:
        """Return 1 where the sum is positive in the box, else 0."""
        (left, upper), (right, lower) = self.ends()
        mask = (self.sums > 0).view(np.uint8)
        mask[:, :left] = mask[:, right:] = 0
        mask[:upper] = mask[lower:] = 0
        return mask

    def rings(self, most: int) -> list[_Pixels]:
        """Return the pixels of the mask's largest outer rings, each (points, 2)."""
        found, _ = cv2.findContours(self.mask(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if len(found) > 1:
            areas = np.array([cv2.contourArea(ring) + len(ring) / 2 + 1 for ring in found])  # pixels, by Pick's theorem
            best = np.argsort(-areas, kind="stable")[:most]
            found = [found[number] for number in best if areas[number] >= LEAST_PART * areas[best[0]]]
        outlines = [np.asarray(ring, np.int32)[:: len(ring) // _MOST_OUTLINE + 1, 0] for ring in found]
        return [np.repeat(ring, 2, axis=0) if len(ring) == 1 else ring for ring in outlines]

    def ends(self) -> tuple[_Corner, _Corner]:
        """Return column and row of the first pixel whose begin is in the box, and those after the last."""
        columns, rows = (self._within(axis, most) for axis, most in enumerate(self.sums.shape[::-1]))
        return (columns[0], rows[0]), (columns[1], rows[1])

    def _within(self, axis: int, most: int) -> tuple[int, int]:
        low = (self.box[axis] - self.origin[axis]) / self.step[axis]
        high = (self.box[axis + 2] - self.origin[axis]) / self.step[axis]
        return max(0, self.first(low)), max(0, min(most, ceil(high)))


def _outlines(fields: Sequence[_Field | None], most: int) -> list[list[_Points]]:
    """Return the largest outer rings of each mask, each (points, 2), in pixels of the input."""
    found = [field.rings(most) if field is not None else [] for field in fields]
    owners = [field for field, rings in zip(fields, found, strict=True) if field is not None and rings]
    if not owners:
        return [[] for _ in found]
    parts = iter(_border(owners, [own for own in found if own]))
    return [list(islice(parts, len(own))) for own in found]


def _border(fields: Sequence[_Field], pixels: Sequence[Sequence[_Pixels]]) -> list[_Points]:
    """Move each mask's rings of pixels, (points, 2), out to its border; return all in turn, in pixels of the input.

    A pixel goes to where the sum is zero if that is within a pixel (one step of Newton's method along the gradient),
    and else, where the box cuts the mask, to the box's edge. Where a mask is one or two pixels thin, a gradient leads
    both of its sides the same way: there the border is that of the pixels.
    """
    counts = [sum(map(len, own)) for own in pixels]

    def for_each(values: Sequence[Sequence[float]], kind: type[np.number] = np.float32) -> NDArray[np.number]:
        return np.repeat(np.array(values, kind), counts, axis=0)

    rings = [ring for own in pixels for ring in own]
    at = np.concatenate(rings)
    begins = [0, *accumulate(field.sums.size for field in fields[:-1])]
    sizes = for_each([(begin, *field.sums.shape) for begin, field in zip(begins, fields, strict=True)], np.intp)
    begin, rows, columns = sizes.T
    sums, x, y = np.concatenate([field.sums.ravel() for field in fields]), at[:, 0], at[:, 1]
    here = begin + y * columns + x
    value = sums[here]
    slope = np.empty((len(at), 2), np.float32)
    slope[:, 0] = sums[here + (x + 1 < columns)] - sums[here - (x > 0)]
    slope[:, 1] = sums[here + columns * (y + 1 < rows)] - sums[here - columns * (y > 0)]
    slope *= _HALF
    steep = slope[:, 0] ** 2 + slope[:, 1] ** 2
    is_near = value * value <= steep
    ahead = np.where(is_near, -value / np.where(steep > 0, steep, 1), np.float32(0))
    points = (at + _HALF + ahead[:, np.newaxis] * slope) * for_each([field.step for field in fields])
    points += for_each([field.origin for field in fields])
    boxes = for_each([field.box for field in fields])
    ends = for_each([(*first, *last) for first, last in (field.ends() for field in fields)], np.intp)
    is_far = ~is_near[:, np.newaxis]
    points = np.where(is_far & (at == ends[:, :2]), boxes[:, :2], points)
    points = np.where(is_far & (at == ends[:, 2:] - 1), boxes[:, 2:], points)

    before, after = _directions(at, rings)
    is_thin = np.zeros(len(at), bool)
    for way in (before, after):
        x, y = (at - 2 * np.rint(_outward(way)).astype(np.intp)).T
        is_in = (x >= ends[:, 0]) & (y >= ends[:, 1]) & (x < ends[:, 2]) & (y < ends[:, 3])
        is_thin |= ~is_in | (sums[np.where(is_in, begin + y * columns + x, here)] <= 0)
    if is_thin.any():
        corners = np.stack((points, points), axis=1)
        moved = at[is_thin, np.newaxis] + _HALF + _HALF * _corners(before[is_thin], after[is_thin])
        corners[is_thin] = moved * for_each([field.step for field in fields])[is_thin, np.newaxis]
        corners[is_thin] += for_each([field.origin for field in fields])[is_thin, np.newaxis]
        points = corners.reshape(-1, 2)[np.column_stack((np.ones(len(at), bool), is_thin)).ravel()]
        boxes = np.repeat(boxes, 1 + is_thin, axis=0)
    lasts = np.cumsum(1 + is_thin)[np.cumsum([len(ring) for ring in rings]) - 1]
    inside: _Points = np.clip(points, boxes[:, :2], boxes[:, 2:]).astype(np.float32)
    return np.split(inside, lasts[:-1])


def _directions(at: _Pixels, rings: Sequence[_Pixels]) -> tuple[_Points, _Points]:
    """Return the unit vectors to each pixel of rings from the one before it, and from it to the next."""
    sizes = np.array([len(ring) for ring in rings])
    lasts = np.cumsum(sizes) - 1
    firsts = lasts - sizes + 1
    following = np.arange(1, len(at) + 1)
    following[lasts] = firsts
    after = (at[following] - at).astype(np.float32)
    is_one = (lasts - firsts == 1) & (after[firsts] == 0).all(axis=1)
    after[firsts[is_one]], after[lasts[is_one]] = (1, 0), (-1, 0)  # one pixel, told twice
    after /= np.maximum(np.hypot(after[:, 0], after[:, 1]), 1)[:, np.newaxis]  # a long outline's ends may be one pixel
    before = np.roll(after, 1, axis=0)
    before[firsts] = after[lasts]
    return before, after


def _outward(ways: _Points) -> _Points:
    """Return the directions that lead out of a ring, whose pixels have the mask to their left, as OpenCV's have."""
    return np.column_stack((-ways[:, 1], ways[:, 0]))


def _corners(before: _Points, after: _Points) -> _Points:
    """Return two points of an outline, (points, 2, 2), one pixel's half away from a ring's pixel at the origin.

    They are the same in a corner, and those of a square's end where the ring turns back.
    """
    out, out_after = _outward(before), _outward(after)
    turn = np.clip(1 - (before * after).sum(axis=1, keepdims=True), 0, 1)
    turn = np.where((out * after).sum(axis=1, keepdims=True) <= 0, turn, -turn)
    return np.stack((out + turn * before, out_after - turn * after), axis=1)


def _ends_of(rings: Sequence[NDArray[np.generic]]) -> list[int]:
    """Return where each but the last of rings ends that were joined."""
    return list(accumulate(map(len, rings[:-1])))


def _simplified(ring: _Points, within: float, most: int) -> _Points:
    """Return a ring with fewer points, at most `most`, as near as possible to the distance `within`.

    A thin ring is simplified by less than its width, because it would have no area; where that takes more than `most`
    points, it becomes the rectangle around it.
    """
    area = cv2.contourArea(ring)
    width = 2 * area / max(cv2.arcLength(ring, closed=True), _LEAST_WITHIN)
    for allowed in _distances(max(_LEAST_WITHIN, min(within, _OF_WIDTH * width))):
        found = np.asarray(cv2.approxPolyDP(ring[:, np.newaxis], allowed, closed=True), np.float32)[:, 0]
        if len(found) > most:
            continue
        if len(found) < _CORNERS or cv2.contourArea(found) < _LEAST_AREA * area:
            return np.asarray(cv2.boxPoints(cv2.minAreaRect(ring)), np.float32)
        return found
    raise AssertionError  # the distances grow without end


def _distances(within: float) -> Iterator[float]:
    while True:
        yield within
        within *= _COARSER
