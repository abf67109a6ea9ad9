"""Tube that lies along the belt, or askew."""

from __future__ import annotations

import cv2
import numpy as np

from agent.demo.conveyor.paint import OVERSAMPLE, SIN, Canvas, Colour, Field, Outline, filled, lay, lit, write

WIDTH, HEIGHT = 230, 200
_MIDDLE = (108.0, 92.0)
_LONG, _WIDE = 172, 56
_CAP = 44  # length of the cap, in pixels of the tube as it is painted
_STRAIGHT_DEG, _ASKEW_DEG = (-7, 7), (25, 155)
_PAINTS: tuple[Colour, ...] = ((190, 90, 40), (60, 60, 200), (70, 150, 60), (40, 160, 230), (150, 60, 120))


def paint(rng: np.random.Generator, *, good: bool) -> tuple[Canvas, Field, tuple[float, float], Outline]:
    """Paint one tube; return canvas, shadow (0 to 1), anchor and the rectangle around it (in plain pixels)."""
    canvas = Canvas.blank(WIDTH, HEIGHT)
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    angle_deg = float(rng.uniform(*(_STRAIGHT_DEG if good else _ASKEW_DEG))) + 180 * int(rng.integers(2))
    corners = _corners(angle_deg)
    colour, mask = _flat(rng)
    high, wide = mask.shape
    source = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    place = cv2.getPerspectiveTransform(source, corners * OVERSAMPLE)
    size = (shape[1], shape[0])
    layer = cv2.warpPerspective(colour, place, size, flags=cv2.INTER_AREA)
    seen = cv2.warpPerspective(mask, place, size, flags=cv2.INTER_LINEAR)
    lay(canvas, np.asarray(layer, np.float32), np.asarray(seen, np.float32))
    shadow = filled(shape, (corners + np.array((9, 7), np.float32)) * OVERSAMPLE, soft=8) * np.float32(0.5)
    return canvas, shadow, _MIDDLE, tuple((float(x), float(y)) for x, y in corners)


def _corners(angle_deg: float) -> Field:
    """Return the corners of a tube that is turned on the belt: its length is foreshortened, its roundness is not."""
    turned = np.deg2rad(angle_deg)
    along = np.array((np.cos(turned), np.sin(turned) * SIN)) * _LONG / 2
    across = np.array((-along[1], along[0])) / np.hypot(*along) * _WIDE / 2
    around = [-along - across, along - across, along + across, -along + across]
    return np.asarray(np.array(around) + _MIDDLE, np.float32)


def _flat(rng: np.random.Generator) -> tuple[Field, Field]:
    """Paint a tube as unrolled from left to right; return colours (HxWx3) and mask (HxW)."""
    wide, high = _LONG * OVERSAMPLE, _WIDE * OVERSAMPLE
    paint_ = np.asarray(_PAINTS[int(rng.integers(len(_PAINTS)))], np.float32) * rng.uniform(0.85, 1.1)
    albedo = np.full((high, wide, 3), 236, np.float32)
    cv2.rectangle(albedo, (26, 0), (96, high), paint_.tolist(), -1)
    cv2.rectangle(albedo, (0, 0), (22, high), (176, 178, 180), -1)
    for x in range(2, 22, 5):
        cv2.line(albedo, (x, 0), (x, high), (140, 140, 144), 2)
    cv2.rectangle(albedo, (wide - _CAP, 0), (wide, high), (paint_ * 0.62).tolist(), -1)
    for y in range(4, high, 9):
        cv2.line(albedo, (wide - _CAP + 4, y), (wide, y), (paint_ * 0.45).tolist(), 2)
    write(albedo, "MINT", (112, high // 2 + 16), 1.5, tuple((paint_ * 0.8).tolist()))
    across = np.linspace(-1, 1, high, dtype=np.float32)[:, None].repeat(wide, axis=1)
    mask = filled(
        (high, wide),
        [
            *((1, 1), (wide - _CAP - 8, 5), (wide - _CAP, 16), (wide - 1, 16)),
            *((wide - 1, high - 16), (wide - _CAP, high - 16), (wide - _CAP - 8, high - 5), (1, high - 1)),
        ],
        soft=0.7,
    )
    return lit(albedo, across, 0.35), mask
