"""Open jar that is filled to its line, or short of it."""

from __future__ import annotations

import cv2
import numpy as np

from agent.demo.conveyor.paint import COS, OVERSAMPLE, SIN, Canvas, Colour, Field, Outline, lay, lit, oval, turn

WIDTH, HEIGHT = 200, 230
_FOOT = (88.0, 178.0)
_GLASS = [(0, 60), (8, 67), (106, 67), (118, 60), (130, 60)]
_MOUTH, _MOUTH_RADIUS = 130, 60
_FLOOR, _ROUNDED, _RADIUS = 5, 11, 62
_FULL, _SHORT = (92, 103), (40, 64)
_CONTENTS: tuple[Colour, ...] = ((40, 30, 150), (25, 130, 205), (50, 120, 70), (30, 70, 190), (70, 30, 90))
_RING_POINTS = 48


def paint(rng: np.random.Generator, *, good: bool) -> tuple[Canvas, Field, tuple[float, float], Outline]:
    """Paint one jar; return canvas, shadow (0 to 1), anchor and the outline of its contents (in plain pixels)."""
    canvas = Canvas.blank(WIDTH, HEIGHT)
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    foot = (_FOOT[0] * OVERSAMPLE, _FOOT[1] * OVERSAMPLE)
    level = float(rng.uniform(*(_FULL if good else _SHORT)))
    glass = turn(shape, foot, [(z * OVERSAMPLE, r * OVERSAMPLE) for z, r in _GLASS])
    clear = np.asarray((206, 208, 200), np.float32) * rng.uniform(0.85, 1.0)
    lay(canvas, lit(np.broadcast_to(clear, (*shape, 3)), glass.across, 0.3), glass.mask)
    mouth = (foot[0], foot[1] - _MOUTH * OVERSAMPLE * COS)
    _rim(canvas, mouth, clear)
    _lay_contents(canvas, foot, level, rng)
    # The front wall stands between the contents and the camera: its highlights lie over both.
    streaks = np.exp(-(((glass.across + 0.62) / 0.07) ** 2)) + 0.6 * np.exp(-(((glass.across - 0.7) / 0.05) ** 2))
    lay(canvas, (250.0, 250.0, 250.0), (0.45 * streaks * glass.mask).astype(np.float32))
    shadow = oval(shape, (foot[0] + 30, foot[1] - 6), (150, 88), soft=9) * 0.5
    return canvas, shadow, _FOOT, _outline(level)


def _rim(canvas: Canvas, mouth: tuple[float, float], clear: Field) -> None:
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    wide = _MOUTH_RADIUS * OVERSAMPLE
    bright, dark = (clear * 1.15).clip(0, 255).tolist(), (clear * 0.68).tolist()
    lay(canvas, tuple(bright), oval(shape, mouth, (wide, wide * SIN), soft=0.8))
    lay(canvas, tuple(dark), oval(shape, mouth, (wide - 7, (wide - 7) * SIN), soft=0.8))


def _lay_contents(canvas: Canvas, foot: tuple[float, float], level: float, rng: np.random.Generator) -> None:
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    colour = np.asarray(_CONTENTS[int(rng.integers(len(_CONTENTS)))], np.float32) * rng.uniform(0.85, 1.15)
    heights = [(_FLOOR, _RADIUS - 4), (_ROUNDED, _RADIUS), (level, _RADIUS)]
    filling = turn(shape, foot, [(z * OVERSAMPLE, r * OVERSAMPLE) for z, r in heights])
    lumps = cv2.GaussianBlur(rng.normal(0, 60, shape).astype(np.float32), (0, 0), 3)
    lay(canvas, lit((colour + lumps[..., None]).clip(0, 255).astype(np.float32), filling.across, 0.0), filling.mask)
    top = (foot[0], foot[1] - level * OVERSAMPLE * COS)
    wide = _RADIUS * OVERSAMPLE
    surface = oval(shape, top, (wide, wide * SIN), soft=0.6) * filling.mask
    lay(canvas, ((colour + lumps[..., None] * 0.6) * 1.2 + 14).clip(0, 255).astype(np.float32), surface)


def _outline(level: float) -> Outline:
    """Return the hull of the contents' rings: of their floor and of their surface."""
    angles = np.linspace(0, 2 * np.pi, _RING_POINTS, endpoint=False)
    round_ = np.stack([np.cos(angles), np.sin(angles) * SIN], axis=1)
    rings = [
        (_FOOT[0], _FOOT[1] - z * COS) + round_ * radius
        for z, radius in ((_FLOOR, _RADIUS - 4), (_ROUNDED, _RADIUS), (level, _RADIUS))
    ]
    hull = cv2.convexHull(np.concatenate(rings).astype(np.float32))[:, 0]
    return tuple((float(x), float(y)) for x, y in hull)
