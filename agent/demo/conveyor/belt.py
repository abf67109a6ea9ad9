"""Scene around the parts: a textured belt between rails, lamps, and sensor noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from agent.demo.conveyor.chance import between, unit

if TYPE_CHECKING:
    from agent.demo.conveyor.paint import Pixels

# Shares of a picture's height: the wall ends and the rail begins, the belt begins, the belt ends.
WALL_END, BELT_TOP, BELT_END = 0.30, 0.34, 0.92
_NOISE_MARGIN = 64
_LAMP_PERIOD_S = 5.0


class Belt:
    """Everything in a picture except the parts: painted once, then moved, lit and made noisy.

    All randomness comes from `seed`. Several threads may read at once.
    """

    def __init__(self, seed: int, width: int, height: int, smear_px: int) -> None:
        self._seed = seed
        self._size = (width, height)
        self._top, self._end = round(BELT_TOP * height), round(BELT_END * height)
        rng = np.random.default_rng([seed, 7])
        self._still = _surroundings(rng, width, height)
        tile = _belt_tile(rng, max(width, 2 * height), self._end - self._top, smear_px)
        self._period = tile.shape[1]
        self._strip = np.ascontiguousarray(np.concatenate([tile, tile[:, :width]], axis=1))
        self._light = _light_field(rng, width, height)
        self._noise = _noise(rng, width + _NOISE_MARGIN, height + _NOISE_MARGIN)

    def background(self, moved_px: float) -> Pixels:
        """Return a new picture (uint8 HxWx3, BGR) of the belt, moved `moved` pixels to the right."""
        picture: Pixels = self._still.copy()
        start = round(-moved_px) % self._period
        picture[self._top : self._end] = self._strip[:, start : start + self._size[0]]
        return picture

    def front(self, picture: Pixels) -> None:
        """Paint the near rail over the parts, in place."""
        picture[self._end :] = self._still[self._end :]

    def seen(self, picture: Pixels, t_s: float) -> Pixels:
        """Return the picture with the lamps' light and the sensor's noise at that time."""
        lit = cv2.multiply(picture, self._light, scale=self._gain(t_s) / 160)
        tick = round(t_s * 1000)
        x, y = int(unit(self._seed, tick, 1) * _NOISE_MARGIN), int(unit(self._seed, tick, 2) * _NOISE_MARGIN)
        width, height = self._size
        noise = self._noise[y : y + height, x : x + width]
        return np.asarray(cv2.addWeighted(lit, 1.0, noise, 1.0, -128.0), np.uint8)

    def _gain(self, t_s: float) -> float:
        """Return the lamps' strength: slow drift, mains flicker, and one lamp that dims now and then."""
        phase = between(0, 2 * np.pi, self._seed, 3)
        drift = 0.07 * np.sin(2 * np.pi * t_s / 11 + phase) + 0.012 * np.sin(2 * np.pi * 99.3 * t_s)
        base = between(0.86, 1.12, self._seed, 4)
        dim = 0.84 if unit(self._seed, int(t_s // _LAMP_PERIOD_S), 5) < 0.25 else 1.0
        return float(base * dim * (1 + drift))


def _surroundings(rng: np.random.Generator, width: int, height: int) -> Pixels:
    wall_end, top, end = (round(share * height) for share in (WALL_END, BELT_TOP, BELT_END))
    picture = np.empty((height, width, 3), np.uint8)
    wall = rng.uniform(70, 130) * np.array([1.06, 1.02, 0.96]) * rng.uniform(0.97, 1.03, 3)
    picture[:wall_end] = np.clip(np.linspace(0.55, 0.95, wall_end)[:, None, None] * wall, 0, 255)
    _machines(picture[:wall_end], rng)
    for first, last, tone in ((wall_end, top, 150), (end, height, 165)):
        ramp = np.linspace(1.1, 0.72, max(1, last - first))[:, None, None]
        picture[first:last] = np.clip(ramp * tone * np.array([1.0, 1.0, 0.97]), 0, 255)
    for x in range(round(rng.uniform(0, height / 6)), width, height // 4):
        for y, radius in (((wall_end + top) // 2, height // 110), ((end + height) // 2, height // 70)):
            cv2.circle(picture, (x, y), radius, (70, 70, 72), -1, cv2.LINE_AA)
            cv2.circle(picture, (x - 1, y - 1), max(1, radius - 2), (190, 190, 190), -1, cv2.LINE_AA)
    return picture


def _machines(wall: Pixels, rng: np.random.Generator) -> None:
    """Paint out-of-focus cabinets and pipes on the far wall, in place."""
    high, wide = wall.shape[:2]
    for _ in range(6):
        x, y = int(rng.uniform(-0.1, 0.95) * wide), int(rng.uniform(-0.2, 0.6) * high)
        corner = (x + int(rng.uniform(0.06, 0.25) * wide), y + int(rng.uniform(0.3, 1.2) * high))
        cv2.rectangle(wall, (x, y), corner, (rng.uniform(40, 165) * rng.uniform(0.85, 1.1, 3)).tolist(), -1)
    wall[:] = cv2.GaussianBlur(wall, (0, 0), high / 16)


def _belt_tile(rng: np.random.Generator, wide: int, high: int, smear_px: int) -> Pixels:
    """Return one seamless period of the belt (uint8 HxWx3): fabric, ribs, scuffs and a splice."""
    tint = rng.uniform(58, 104) * rng.uniform(0.94, 1.06, 3)
    grain = cv2.GaussianBlur(rng.normal(0, 22, (high, wide)).astype(np.float32), (0, 0), 1.1)
    patches = rng.normal(0, 7, (6, 6)).astype(np.float32)
    mirrored = np.concatenate([patches, patches[:, ::-1]], axis=1)
    cloud = cv2.resize(mirrored, (wide, high), interpolation=cv2.INTER_CUBIC)
    ribs = 5 * np.sin(np.arange(wide, dtype=np.float32) * 2 * np.pi * round(wide / 16) / wide)
    tile = tint + (grain + cloud + ribs[None, :])[..., None]
    tile = tile * np.linspace(0.86, 1.08, high)[:, None, None]
    for _ in range(int(rng.integers(6, 14))):
        x, y = int(rng.uniform(30, wide - 120)), int(rng.uniform(0, high))
        end = (x + int(rng.uniform(10, 80)), y + int(rng.uniform(-9, 9)))
        cv2.line(tile, (x, y), end, (tint + rng.uniform(-28, 40)).tolist(), int(rng.integers(1, 3)), cv2.LINE_AA)
    splice = int(rng.uniform(0.2, 0.8) * wide)
    cv2.line(tile, (splice, 0), (splice + high // 5, high), (tint * 0.6).tolist(), 3, cv2.LINE_AA)
    around = np.concatenate([tile[:, -16:], tile, tile[:, :16]], axis=1)
    smeared = cv2.blur(around, (max(1, 2 * smear_px - 1), 1))[:, 16:-16]
    return np.asarray(np.clip(smeared, 0, 255), np.uint8)


def _light_field(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Return the lamps' light over the picture (uint8 HxWx3, 160 is neutral): slope, tint and vignette."""
    ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = rng.uniform(-0.16, 0.16) * xs + rng.uniform(-0.1, 0.1) * ys
    pool = 0.12 * np.exp(-((xs - rng.uniform(-0.7, 0.7)) ** 2 + (ys - rng.uniform(-0.4, 0.5)) ** 2) / 0.35)
    field = (1 + slope + pool - 0.13 * (xs**2 + ys**2) / 2)[..., None] * (1 + rng.uniform(-0.045, 0.045, 3))
    return np.asarray(np.clip(field * 160, 0, 255), np.uint8)


def _noise(rng: np.random.Generator, width: int, height: int) -> Pixels:
    sigma = rng.uniform(2.0, 5.5)
    shared = rng.standard_normal((height, width, 1), np.float32)
    own = rng.standard_normal((height, width, 3), np.float32)
    return np.clip(128 + sigma * (0.8 * shared + 0.6 * own), 0, 255).astype(np.uint8)
