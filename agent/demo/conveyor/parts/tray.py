"""Tray of twelve whose film is intact, or torn."""

from __future__ import annotations

import cv2
import numpy as np

from agent.demo.conveyor.paint import COS, OVERSAMPLE, SIN, Canvas, Colour, Field, Outline, filled, lay, upright, write

WIDTH, HEIGHT = 310, 220
_ANCHOR = (150.0, 180.0)
_ACROSS, _DEEP, _SIDE = 230, 220, 38  # millimetres on the belt are pixels here, before foreshortening
_FOODS: tuple[Colour, ...] = ((40, 110, 235), (50, 45, 190), (60, 160, 70), (50, 190, 235))
_FILMS: tuple[Colour, ...] = ((235, 215, 190), (240, 240, 240), (200, 225, 240))


def paint(rng: np.random.Generator, *, good: bool) -> tuple[Canvas, Field, tuple[float, float], Outline]:
    """Paint one tray; return canvas, shadow (0 to 1), anchor and the box of its film (in plain pixels)."""
    canvas = Canvas.blank(WIDTH, HEIGHT)
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    corners = _corners(float(rng.uniform(-5, 5)))
    low = corners + _point(0, _SIDE * COS)
    shadow = filled(shape, (low + _point(14, 4)) * OVERSAMPLE, soft=9) * np.float32(0.5)
    for first, second in ((1, 2), (2, 3), (3, 0)):
        side = np.stack([corners[first], corners[second], low[second], low[first]])
        tone = 150.0 if (first, second) == (2, 3) else 105.0
        lay(canvas, (tone * 0.96, tone, tone * 1.02), filled(shape, side * OVERSAMPLE, soft=0.6))
    _lay_top(canvas, corners, _top(rng, good=good))
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return canvas, shadow, _ANCHOR, upright(left, top, right, bottom)


def _point(x: float, y: float) -> Field:
    return np.array((x, y), np.float32)


def _corners(angle_deg: float) -> Field:
    turn = np.deg2rad(angle_deg)
    flat = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * _point(_ACROSS / 2, _DEEP / 2)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], np.float32)
    middle = _point(_ANCHOR[0], _ANCHOR[1] - _SIDE * COS - _DEEP * SIN / 2)
    return np.asarray((flat @ spin) * _point(1, SIN) + middle, np.float32)


def _lay_top(canvas: Canvas, corners: Field, top: Field) -> None:
    shape = (canvas.alpha.shape[0], canvas.alpha.shape[1])
    high, wide = top.shape[:2]
    source = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    place = cv2.getPerspectiveTransform(source, corners * OVERSAMPLE)
    layer = cv2.warpPerspective(top, place, (shape[1], shape[0]), flags=cv2.INTER_AREA)
    lay(canvas, np.asarray(layer, np.float32), filled(shape, corners * OVERSAMPLE, soft=0.6))


def _top(rng: np.random.Generator, *, good: bool) -> Field:
    bare = _filled_cups(rng)
    film = _film(rng, bare)
    if good:
        return film
    hole, flap = _tear(rng)
    size = (film.shape[0], film.shape[1])
    edge = filled(size, hole, soft=1.0)[..., None]
    torn = film * (1 - edge) + bare * edge
    cv2.polylines(torn, [hole.astype(np.int32)], True, (250, 250, 250), 5, cv2.LINE_AA)
    curl = filled(size, flap, soft=1.2)[..., None]
    gloss = np.float32(214) + 36 * np.sin(np.arange(size[1], dtype=np.float32) / 7)[None, :, None]
    shade = filled(size, flap + _point(7, 9), soft=5)[..., None] * np.float32(0.5)
    return np.asarray(torn * (1 - shade) * (1 - curl) + gloss * curl, np.float32)


def _filled_cups(rng: np.random.Generator) -> Field:
    high, wide = _DEEP * OVERSAMPLE, _ACROSS * OVERSAMPLE
    tray = np.full((high, wide, 3), 62, np.float32)
    food = np.asarray(_FOODS[int(rng.integers(len(_FOODS)))], np.float32)
    for row in range(3):
        for column in range(4):
            x, y = round((column + 0.5) * (wide - 40) / 4 + 20), round((row + 0.5) * (high - 40) / 3 + 20)
            cv2.circle(tray, (x, y), 50, (26, 26, 28), -1, cv2.LINE_AA)
            tone = (food * rng.uniform(0.85, 1.1)).tolist()
            cv2.circle(tray, (x + 2, y + 4), 42, tone, -1, cv2.LINE_AA)
            cv2.circle(tray, (x - 14, y - 14), 9, (food * 0.4 + 150).tolist(), -1, cv2.LINE_AA)
    return tray


def _film(rng: np.random.Generator, bare: Field) -> Field:
    high, wide = bare.shape[:2]
    tint = np.asarray(_FILMS[int(rng.integers(len(_FILMS)))], np.float32)
    film = (bare * 0.5 + tint * 0.5).astype(np.float32)
    cv2.rectangle(film, (0, 0), (wide - 1, high - 1), (tint * 0.9).tolist(), 34)
    ys, xs = np.mgrid[0:high, 0:wide].astype(np.float32)
    along = xs * 0.8 + ys * 0.6 + 14 * np.sin(ys / 37 + rng.uniform(0, 6)) - rng.uniform(0, 500)
    glare = np.exp(-(((along % 330) - 60) ** 2) / 900) * 62
    film += glare[..., None].astype(np.float32)
    _sticker(film, rng)
    return np.clip(film, 0, 255).astype(np.float32)


def _sticker(film: Field, rng: np.random.Generator) -> None:
    high, wide = film.shape[:2]
    x, y = wide // 2 + int(rng.integers(-50, 50)), high // 2 + int(rng.integers(-40, 40))
    cv2.rectangle(film, (x - 82, y - 40), (x + 82, y + 40), (244, 244, 244), -1)
    cv2.rectangle(film, (x - 82, y - 40), (x + 82, y - 12), rng.uniform(30, 180, 3).tolist(), -1)
    write(film, "12 x 40 g", (x - 66, y + 26), 0.9, (40, 40, 40))


def _tear(rng: np.random.Generator) -> tuple[Field, Field]:
    """Return outlines of a jagged hole and of the film folded back from it (float32 Nx2, pixels of the top)."""
    wide, high = _ACROSS * OVERSAMPLE, _DEEP * OVERSAMPLE
    middle = _point(rng.uniform(0.34, 0.66) * wide, rng.uniform(0.36, 0.64) * high)
    angles = np.linspace(0, 2 * np.pi, 15)[:-1] + rng.uniform(-0.12, 0.12, 14)
    reach = rng.uniform(0.62, 1.25, 14) * rng.uniform(95, 130)
    long = _point(1.25, 0.9)
    hole = middle + (np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]).astype(np.float32) * long
    hole = np.clip(hole, 12, _point(wide - 12, high - 12)).astype(np.float32)
    start = int(rng.integers(14))
    rim = hole[[(start + step) % 14 for step in range(5)]]
    inward = (middle - rim.mean(axis=0)) * np.float32(0.2)
    outward = rim + (rim.mean(axis=0) - middle) * np.float32(0.42)
    return hole, np.concatenate([rim + inward, outward[::-1]]).astype(np.float32)
