"""Half-litre bottle with a cap, or with an open neck."""

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
    write,
)

WIDTH, HEIGHT = 170, 310
_FOOT = (85.0, 270.0)
_BODY = [
    (0, 38),
    (6, 43),
    (60, 43),
    (70, 40),
    (84, 40),
    (94, 43),
    (150, 43),
    (172, 37),
    (194, 24),
    (208, 17),
    (236, 17),
]
_CAP = [(218, 22), (240, 22), (244, 20)]
_NECK_TOP = 236
_HEAD_ROWS = 260
_DRINKS: tuple[Colour, ...] = ((38, 120, 205), (40, 60, 150), (70, 165, 90), (60, 175, 225))
_CAPS: tuple[Colour, ...] = ((190, 80, 30), (40, 40, 200), (60, 150, 40), (235, 235, 235))


def paint(rng: np.random.Generator, *, good: bool) -> tuple[Canvas, Field, tuple[float, float], Outline]:
    """Paint one bottle; return canvas, shadow (0 to 1), anchor and the box of its head (in plain pixels)."""
    canvas = Canvas.blank(WIDTH, HEIGHT)
    shape = canvas.alpha.shape
    foot = (_FOOT[0] * OVERSAMPLE, _FOOT[1] * OVERSAMPLE)
    body = turn((shape[0], shape[1]), foot, [(z * OVERSAMPLE, r * OVERSAMPLE) for z, r in _BODY])
    lay(canvas, lit(_albedo(rng, body), body.across, 0.45), body.mask)
    # Only the rows above the shoulder change: painting fewer of them is what makes this quick.
    head = Canvas(canvas.colour[:_HEAD_ROWS], canvas.alpha[:_HEAD_ROWS])
    (_cap if good else _mouth)(head, rng, foot)
    shadow = oval((shape[0], shape[1]), (foot[0] + 26, foot[1] - 6), (98, 56), soft=9) * 0.5
    top = _FOOT[1] - (244 * COS + 20 * SIN if good else _NECK_TOP * COS + 17 * SIN)
    return canvas, shadow, _FOOT, upright(_FOOT[0] - 30, top - 1, _FOOT[0] + 30, _FOOT[1] - 186 * COS + 10)


def _albedo(rng: np.random.Generator, body: Turned) -> Field:
    drink = np.asarray(_DRINKS[int(rng.integers(len(_DRINKS)))], np.float32) * rng.uniform(0.85, 1.1)
    height = np.asarray(body.height / OVERSAMPLE, np.float32)
    clear = np.asarray((205, 205, 198), np.float32)
    fill = np.clip((196 + rng.uniform(-6, 6) - height) / 2, 0, 1)[..., None]
    # Thin at the edges, the drink looks darker where the light runs through more of it.
    deep = (1 - 0.35 * np.abs(body.across) ** 3)[..., None]
    albedo = drink * deep * fill + clear * 0.8 * (1 - fill)
    return _labelled(rng, albedo.astype(np.float32), body, height)


def _labelled(rng: np.random.Generator, albedo: Field, body: Turned, height: Field) -> Field:
    print_ = np.full((120, 400, 3), 245, np.float32)
    band = rng.uniform(20, 210, 3).tolist()
    cv2.rectangle(print_, (0, 86), (400, 120), band, -1)
    cv2.rectangle(print_, (0, 0), (400, 10), band, -1)
    for x in (-60, 140, 340):
        write(print_, "LIMO", (x, 58), 1.5, (90, 50, 20))
        write(print_, "500 ml", (x + 12, 111), 0.7, (255, 255, 255))
    turnover = rng.uniform(-0.4, 0.4)
    u = ((np.arcsin(body.across) + turnover) / np.pi + 0.5) * 280 + 60
    v = (146 - height) / 46 * 119
    image = cv2.remap(print_, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
    inside = ((v >= 0) & (v < 119))[..., None]
    return np.where(inside, image, albedo).astype(np.float32)


def _cap(canvas: Canvas, rng: np.random.Generator, foot: tuple[float, float]) -> None:
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    colour = np.asarray(_CAPS[int(rng.integers(len(_CAPS)))], np.float32) * rng.uniform(0.85, 1.05)
    cap = turn(shape, foot, [(z * OVERSAMPLE, r * OVERSAMPLE) for z, r in _CAP])
    ribs = 0.86 + 0.14 * np.cos(np.arcsin(cap.across) * 34 + rng.uniform(0, 6))
    lay(canvas, lit((colour * ribs[..., None]).astype(np.float32), cap.across, 0.25), cap.mask)
    top = (foot[0], foot[1] - _CAP[-1][0] * OVERSAMPLE * COS)
    lay(canvas, _clip(colour * 1.08 + 22), oval(shape, top, (40, 40 * SIN), soft=0.8))
    lay(canvas, _clip(colour * 1.0 + 8), oval(shape, top, (30, 30 * SIN), soft=1.2))


def _mouth(canvas: Canvas, rng: np.random.Generator, foot: tuple[float, float]) -> None:
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    clear = np.asarray((222, 222, 216), np.float32) * rng.uniform(0.9, 1.05)
    for height, wide in ((214, 20.5), (223, 18.6), (229, 18.6)):
        ring = [(height * OVERSAMPLE, wide * OVERSAMPLE), ((height + 3) * OVERSAMPLE, wide * OVERSAMPLE)]
        thread = turn(shape, foot, ring)
        lay(canvas, lit(np.broadcast_to(clear, (*shape, 3)), thread.across, 0.3), thread.mask)
        above = turn(shape, foot, [((height + 3) * OVERSAMPLE, 34), ((height + 6) * OVERSAMPLE, 34)])
        lay(canvas, lit(np.broadcast_to(clear * 0.72, (*shape, 3)), above.across, 0.3), above.mask)
    top = (foot[0], foot[1] - _NECK_TOP * OVERSAMPLE * COS)
    lay(canvas, _clip(clear * 1.08), oval(shape, top, (34, 34 * SIN), soft=0.8))
    lay(canvas, (38.0, 36.0, 34.0), oval(shape, top, (25, 25 * SIN), soft=0.8))
    lay(canvas, (92.0, 90.0, 84.0), oval(shape, (top[0], top[1] + 4), (19, 11 * SIN), soft=1.5))


def _clip(colour: Field) -> Colour:
    blue, green, red = np.clip(colour, 0, 255).tolist()
    return float(blue), float(green), float(red)
