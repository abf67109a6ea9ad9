"""Drawing tools for parts: surfaces of revolution, light, shadows and sprites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Pixels: TypeAlias = NDArray[np.uint8]
Field: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]
Box: TypeAlias = tuple[float, float, float, float]
Outline: TypeAlias = tuple[tuple[float, float], ...]

# The camera looks down on the belt: a depth shows by SIN of its length, a height by COS.
SIN = 0.6
COS = 0.8
# Parts are painted at twice their size and then halved, which smooths every edge.
OVERSAMPLE = 2
WHOLE = 256


@dataclass(frozen=True)
class Sprite:
    """A painted part, ready to blend into a frame."""

    light: NDArray[np.uint16]
    """BGR times alpha (uint16 HxWx3, 0 to 65280)."""
    keep: NDArray[np.uint16]
    """256 minus alpha, the share of the background that stays (uint16 HxWx3)."""
    anchor: tuple[float, float]
    """Pixel (x, y) of the sprite that stands on the belt."""
    outline: Outline
    """Corners of the inspected feature, clockwise, in pixels of the sprite."""


@dataclass(frozen=True)
class Canvas:
    """Oversampled image of a part: BGR 0 to 255 (float32 HxWx3) and alpha 0 to 1 (float32 HxW)."""

    colour: Field
    alpha: Field

    @classmethod
    def blank(cls, width: int, height: int) -> Canvas:
        """Return a transparent canvas for a part of that size in pixels."""
        shape = (height * OVERSAMPLE, width * OVERSAMPLE)
        return cls(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32))


@dataclass(frozen=True)
class Turned:
    """Surface of revolution, with one value a pixel (float32 HxW)."""

    height: Field
    """Height above the belt."""
    across: Field
    """-1 at the left edge to 1 at the right."""
    mask: Field
    """1 where the surface is visible."""


def turn(shape: tuple[int, int], foot: tuple[float, float], profile: Sequence[tuple[float, float]]) -> Turned:
    """Turn a profile of (height, radius), foot first, about the vertical axis through `foot`; oversampled pixels."""
    heights = np.arange(profile[0][0], profile[-1][0] + 0.5, 1.0, dtype=np.float32)
    radii = np.interp(heights, [z for z, _ in profile], [r for _, r in profile]).astype(np.float32)
    level = np.full(shape, -1.0, np.float32)
    for height, radius in zip(heights.tolist(), radii.tolist(), strict=True):
        centre = (round(foot[0]), round(foot[1] - height * COS))
        cv2.ellipse(level, centre, (round(radius), round(radius * SIN)), 0, 0, 360, (height,), -1)
    mask = (level >= 0).astype(np.float32)
    steps = np.clip(level - np.float32(profile[0][0]), 0, len(radii) - 1).astype(np.int32)
    radius_at = radii[steps]
    columns = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(foot[0])
    return Turned(level, np.clip(columns / np.maximum(radius_at, 1), -1, 1).astype(np.float32), mask)


def lit(albedo: Field, across: Field, gloss: float) -> Field:
    """Return `albedo` (HxWx3) under a lamp at the front left, with two highlights of strength `gloss` (0 to 1)."""
    facing = np.sqrt(np.maximum(0, 1 - across**2))
    diffuse = 0.45 + 0.62 * np.clip(0.86 * facing - 0.5 * across, 0, 1)
    streaks = np.exp(-(((across + 0.45) / 0.1) ** 2)) + 0.5 * np.exp(-(((across - 0.62) / 0.06) ** 2))
    return np.asarray(albedo * diffuse[..., None] + 255 * gloss * streaks[..., None], np.float32)


def lay(canvas: Canvas, colour: Field | Colour, mask: Field) -> None:
    """Paint a colour over the canvas, weighted by `mask` (0 to 1)."""
    share = mask[..., None]
    canvas.colour[:] = canvas.colour * (1 - share) + np.asarray(colour, np.float32) * share
    canvas.alpha[:] = np.maximum(canvas.alpha, mask)


def filled(shape: tuple[int, int], points: Any, *, soft: float = 0.0) -> Field:  # noqa: ANN401 - any nested sequence of points
    """Return a polygon's mask (float32 HxW, 0 to 1) with edges softened by `soft` pixels."""
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.asarray(points, np.float32).round().astype(np.int32)], (1.0,))
    return blurred(mask, soft)


def oval(shape: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float], *, soft: float = 0.0) -> Field:
    """Return an upright ellipse's mask (float32 HxW, 0 to 1)."""
    mask = np.zeros(shape, np.float32)
    whole = (round(centre[0]), round(centre[1])), (max(1, round(axes[0])), max(1, round(axes[1])))
    cv2.ellipse(mask, *whole, 0, 0, 360, (1.0,), -1)
    return blurred(mask, soft)


def blurred(mask: Field, sigma: float) -> Field:
    """Return the field smoothed by a Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32) if sigma > 0 else mask


def write(image: Field, text: str, origin: tuple[int, int], size: float, colour: Colour) -> None:
    """Write text on a float32 HxWx3 image, in place."""
    ink = np.zeros(image.shape[:2], np.uint8)
    cv2.putText(ink, text, origin, cv2.FONT_HERSHEY_DUPLEX, size, (255,), max(2, round(size * 2.4)), cv2.LINE_AA)
    share = ink[..., None].astype(np.float32) / 255
    image[:] = image * (1 - share) + np.asarray(colour, np.float32) * share


def finish(canvas: Canvas, shadow: Field, scale: float, smear_px: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return `light` and `keep` of a sprite: canvas over shadow, scaled down, blurred along the belt by motion."""
    alpha = canvas.alpha + (1 - canvas.alpha) * shadow
    layers = np.dstack([canvas.colour * canvas.alpha[..., None], alpha])
    size = (
        max(1, round(layers.shape[1] * scale / OVERSAMPLE)),
        max(1, round(layers.shape[0] * scale / OVERSAMPLE)),
    )
    small = cv2.resize(layers, size, interpolation=cv2.INTER_AREA)
    small = cv2.blur(small, (max(1, smear_px), 1), borderType=cv2.BORDER_CONSTANT)
    light = (np.clip(small[..., :3], 0, 255) * 256).astype(np.uint16)
    keep = WHOLE - np.clip(small[..., [3, 3, 3]] * 256, 0, 256).astype(np.uint16)
    return light, keep


def cropped(sprite: Sprite) -> Sprite:
    """Return the sprite without transparent margins, because blending them costs time."""
    touched = (sprite.keep[..., 0] != WHOLE) | (sprite.light != 0).any(axis=2)
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    inner = np.s_[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return Sprite(
        np.ascontiguousarray(sprite.light[inner]),
        np.ascontiguousarray(sprite.keep[inner]),
        (sprite.anchor[0] - left, sprite.anchor[1] - top),
        tuple((x - left, y - top) for x, y in sprite.outline),
    )


def upright(x1: float, y1: float, x2: float, y2: float) -> Outline:
    """Return the outline of an upright rectangle."""
    return ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
