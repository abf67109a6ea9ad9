"""Rendered view of the demo line: moving parts, with ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.demo.conveyor.belt import Belt
from agent.demo.conveyor.chance import between, unit
from agent.demo.conveyor.products import DEFECTIVE, GOOD, PRODUCTS, sprites

if TYPE_CHECKING:
    from agent.demo.conveyor.paint import Box, Outline, Pixels, Sprite

MIN_VISIBLE: Final = 0.5
_HEIGHT_PX: Final = 480  # products give their distances for pictures of this height
_MARGIN_PX: Final = 200  # no sprite reaches further from its anchor
_DEFECTIVE_SHARE: Final = 0.34
_GAP_SHARE: Final = 0.08


@dataclass(frozen=True)
class Part:
    """Ground truth of one visible part."""

    label: str
    class_id: int
    box: Box
    """x1, y1, x2, y2 of the inspected feature in pixels, clipped to the picture."""
    outline: Outline
    """Corners of the inspected feature, which is convex; clipped as well."""


class Conveyor:
    """Renderer of one line with one product; None: an empty belt.

    A frame is a pure function of (product, seed, size, t), on any thread. Seeds differ in parts, lamps, belt, speed and
    noise. Raises KeyError for an unknown product.
    """

    def __init__(self, product: str | None, seed: int, width: int = 640, height: int = 480) -> None:
        self.product: Final = product
        self._recipe: Final = None if product is None else PRODUCTS[product]
        self._seed = seed
        self._scale = height / _HEIGHT_PX
        self._size = (width, height)
        smear_px = 1 + 2 * int(unit(seed, 11) * 3 * self._scale)
        self._speed_px_s = between(105, 165, seed, 12) * self._scale
        self._belt = Belt(seed, width, height, smear_px)
        good, defective = ((), ()) if product is None else sprites(product, seed, self._scale, smear_px)
        self._sprites: tuple[tuple[Sprite, ...], tuple[Sprite, ...]] = (good, defective)

    def render(self, t_s: float) -> tuple[Pixels, list[Part]]:
        """Return the picture (uint8 HxWx3, BGR) at time `t_s`, and its parts that are at least half inside.

        Parts never hide each other's inspected features.
        """
        moved = self._speed_px_s * t_s
        picture = self._belt.background(moved)
        parts = []
        for lane in range(len(self._recipe.lanes) if self._recipe else 0):
            parts += self._lane(picture, lane, moved)
        self._belt.front(picture)
        return self._belt.seen(picture, t_s), parts

    def _lane(self, picture: Pixels, lane: int, moved: float) -> list[Part]:
        assert self._recipe is not None
        pitch, margin = self._recipe.pitch_px * self._scale, _MARGIN_PX * self._scale
        shift = lane * pitch / 2
        first = ceil((moved + shift - self._size[0] - margin) / pitch)
        last = floor((moved + shift + margin) / pitch)
        found = [self._place(picture, lane, slot, moved + shift - slot * pitch) for slot in range(first, last + 1)]
        return [part for part in found if part is not None]

    def _place(self, picture: Pixels, lane: int, slot: int, x: float) -> Part | None:
        """Paint the part of one slot; None for a gap, or for a part outside the picture."""
        assert self._recipe is not None
        keys = (self._seed, lane, slot)
        if unit(*keys, 1) < _GAP_SHARE:
            return None
        class_id = DEFECTIVE if unit(*keys, 2) < _DEFECTIVE_SHARE else GOOD
        choice = self._sprites[class_id]
        sprite = choice[int(unit(*keys, 3) * len(choice))]
        wander = 0.05 * self._recipe.pitch_px * self._scale
        left = round(x + between(-wander, wander, *keys, 4) - sprite.anchor[0])
        top = round(self._recipe.lanes[lane] * self._scale + between(-6, 6, *keys, 5) * self._scale - sprite.anchor[1])
        _blend(picture, sprite, left, top)
        seen = _inside(tuple((x + left, y + top) for x, y in sprite.outline), picture)
        return None if seen is None else Part(self._recipe.classes[class_id], class_id, _around(seen), seen)


def _blend(picture: Pixels, sprite: Sprite, left: int, top: int) -> None:
    high, wide = sprite.keep.shape[:2]
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(picture.shape[1], left + wide), min(picture.shape[0], top + high)
    if x1 >= x2 or y1 >= y2:
        return
    part = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
    place = picture[y1:y2, x1:x2]
    mixed = place.astype(np.uint16)
    mixed *= sprite.keep[part]
    mixed += sprite.light[part]
    mixed >>= 8
    place[:] = mixed


def _inside(outline: Outline, picture: Pixels) -> Outline | None:
    """Return the outline clipped to the picture; None where less than MIN_VISIBLE of its area is left."""
    high, wide = picture.shape[:2]
    seen = outline
    for axis, limit, side in ((0, 0.0, 1), (0, float(wide), -1), (1, 0.0, 1), (1, float(high), -1)):
        seen = _cut(seen, axis, limit, side)
    return seen if _area(seen) >= MIN_VISIBLE * _area(outline) else None


def _cut(outline: Outline, axis: int, limit: float, side: int) -> Outline:
    """Return what lies above `limit` on the axis where `side` is 1, below it where it is -1."""
    kept: list[tuple[float, float]] = []
    for number, end in enumerate(outline):
        start = outline[number - 1]
        before, after = (start[axis] - limit) * side, (end[axis] - limit) * side
        if before * after < 0:
            share = before / (before - after)
            met = [begin + (stop - begin) * share for begin, stop in zip(start, end, strict=True)]
            met[axis] = limit
            kept.append((met[0], met[1]))
        if after >= 0:
            kept.append(end)
    return tuple(kept)


def _area(outline: Outline) -> float:
    crossed = [x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(outline, (*outline[1:], *outline[:1]), strict=True)]
    return abs(sum(crossed)) / 2


def _around(outline: Outline) -> Box:
    across, down = [x for x, _ in outline], [y for _, y in outline]
    return min(across), min(down), max(across), max(down)
