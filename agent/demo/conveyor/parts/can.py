"""330 ml can whose lid has a pull ring, or a bare rivet."""

from __future__ import annotations

import cv2
import numpy as np

from agent.demo.conveyor.paint import (
    COS,
    OVERSAMPLE,
    SIN,
    Canvas,
    Colour,
    Field,
    Outline,
    Turned,
    lay,
    lit,
    oval,
    turn,
    upright,
)

WIDTH, HEIGHT = 170, 230
_FOOT = (85.0, 180.0)
_BODY = [(0, 44), (7, 54), (112, 54), (122, 50), (126, 50)]
_TOP = 126
_RIM = 50
_COLOURS: tuple[Colour, ...] = ((40, 35, 190), (150, 70, 25), (55, 130, 50), (30, 140, 230))
_LID_PX = 240  # the lid is painted from straight above, then foreshortened


def paint(rng: np.random.Generator, *, good: bool) -> tuple[Canvas, Field, tuple[float, float], Outline]:
    """Paint one can; return canvas, shadow (0 to 1), anchor and the box of its lid (in plain pixels)."""
    canvas = Canvas.blank(WIDTH, HEIGHT)
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    foot = (_FOOT[0] * OVERSAMPLE, _FOOT[1] * OVERSAMPLE)
    body = turn(shape, foot, [(z * OVERSAMPLE, r * OVERSAMPLE) for z, r in _BODY])
    lay(canvas, lit(_albedo(rng, body), body.across, 0.4), body.mask)
    _lay_lid(canvas, foot, _lid(rng, good=good))
    shadow = oval(shape, (foot[0] + 26, foot[1] - 4), (122, 72), soft=9) * 0.5
    middle = _FOOT[1] - _TOP * COS
    lid = upright(_FOOT[0] - _RIM, middle - _RIM * SIN, _FOOT[0] + _RIM, middle + _RIM * SIN)
    return canvas, shadow, _FOOT, lid


def _albedo(rng: np.random.Generator, body: Turned) -> Field:
    height = body.height / OVERSAMPLE
    colour = np.asarray(_COLOURS[int(rng.integers(len(_COLOURS)))], np.float32) * rng.uniform(0.85, 1.1)
    angle = np.arcsin(body.across) + rng.uniform(-0.7, 0.7)
    swoosh = np.abs(height - 58 - 26 * np.sin(angle * 1.6)) < 11
    metal = (height < 8) | (height > 112)
    albedo = np.where(swoosh[..., None], np.float32(240), colour)
    return np.where(metal[..., None], np.float32(188), albedo).astype(np.float32)


def _lay_lid(canvas: Canvas, foot: tuple[float, float], lid: Field) -> None:
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    wide, deep = _RIM * OVERSAMPLE * 2, round(_RIM * OVERSAMPLE * 2 * SIN)
    small = cv2.resize(lid, (wide, deep), interpolation=cv2.INTER_AREA)
    left, top = round(foot[0] - wide / 2), round(foot[1] - _TOP * OVERSAMPLE * COS - deep / 2)
    layer = np.zeros((*shape, 3), np.float32)
    layer[top : top + deep, left : left + wide] = small
    lay(canvas, layer, oval(shape, (left + wide / 2, top + deep / 2), (wide / 2 - 1, deep / 2 - 1), soft=0.6))


def _lid(rng: np.random.Generator, *, good: bool) -> Field:
    half = _LID_PX // 2
    lid = np.full((_LID_PX, _LID_PX, 3), 205, np.float32)
    ys, xs = np.mgrid[0:_LID_PX, 0:_LID_PX].astype(np.float32) - half
    sheen = 26 * np.cos(2 * np.arctan2(ys, xs) + rng.uniform(0, 6)) + 10 * np.sin(np.hypot(xs, ys) * 1.3)
    lid += sheen[..., None].astype(np.float32)
    for radius, colour, thick in ((half - 5, 236, 9), (half - 15, 96, 8), (half - 23, 180, 4), (half - 36, 150, 2)):
        cv2.circle(lid, (half, half), radius, (colour, colour, colour), thick, cv2.LINE_AA)
    cv2.ellipse(lid, (half, half + 46), (44, 34), 0, 0, 360, (128, 128, 128), 3, cv2.LINE_AA)
    if good:
        _ring(lid, rng, half)
    cv2.circle(lid, (half, half), 9, (150, 150, 150), -1, cv2.LINE_AA)
    cv2.circle(lid, (half, half), 9, (84, 84, 84), 2, cv2.LINE_AA)
    turned = cv2.getRotationMatrix2D((half, half), float(rng.uniform(0, 360)), 1.0)
    return np.asarray(cv2.warpAffine(lid, turned, (_LID_PX, _LID_PX), flags=cv2.INTER_LINEAR), np.float32)


def _ring(lid: Field, rng: np.random.Generator, half: int) -> None:
    tint = float(rng.uniform(0.9, 1.05))
    metal = (214 * tint, 222 * tint, 228 * tint)
    shade = (58.0, 58.0, 62.0)
    for shift, colour in ((5, shade), (0, metal)):
        cv2.ellipse(lid, (half + shift, half - 44 + shift), (33, 36), 0, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(lid, (half + shift, half + 2 + shift), (25, 26), 0, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(lid, (half, half - 44), (33, 36), 0, 0, 360, (120, 120, 124), 2, cv2.LINE_AA)
    cv2.ellipse(lid, (half, half - 50), (19, 20), 0, 0, 360, (70, 70, 76), -1, cv2.LINE_AA)
    cv2.ellipse(lid, (half, half + 2), (14, 15), 0, 20, 330, (120, 120, 124), 2, cv2.LINE_AA)
