"""Products of the demo line: PLC codes, their models, and the painters of their parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from agent.demo.conveyor.paint import Canvas, Field, Outline, Sprite, cropped, finish
from agent.demo.conveyor.parts import bottle, can, jar, tray, tube

if TYPE_CHECKING:
    from agent.messages.references import Task

GOOD: Final = 0
DEFECTIVE: Final = 1
_SPRITES_A_CLASS: Final = 5


class Painter(Protocol):
    """Function that paints one part with randomness from `rng`."""

    def __call__(self, rng: np.random.Generator, *, good: bool) -> tuple[Canvas, Field, tuple[float, float], Outline]:
        """Paint a good or defective part; return canvas, shadow, anchor and the inspected feature's outline."""


@dataclass(frozen=True)
class Product:
    """A product of the demo line."""

    code: str
    """The PLC's code."""
    model: str
    classes: tuple[str, str]
    """The model's class names, good first."""
    paint: Painter
    pitch_px: float
    """Distance between parts, in pixels of a picture 480 high."""
    lanes: tuple[float, ...]
    """y of each lane's anchors, in pixels of a picture 480 high."""
    task: Task = "detect"
    """Task of the model: it says whether boxes, outlines or turned boxes are inspected."""


PRODUCTS: Final[dict[str, Product]] = {
    product.code: product
    for product in (
        Product("bottle-500", "cap-check", ("cap", "no-cap"), bottle.paint, 122, (392,)),
        Product("can-330", "ring-check", ("ring", "no-ring"), can.paint, 156, (290, 410)),
        Product("tray-12", "seal-check", ("sealed", "torn"), tray.paint, 268, (372,)),
        Product("jar-250", "fill-check", ("full", "short"), jar.paint, 172, (388,), "segment"),
        Product("tube-75", "lay-check", ("straight", "askew"), tube.paint, 218, (236, 366), "obb"),
    )
}


@lru_cache(maxsize=8)
def sprites(code: str, seed: int, scale: float, smear_px: int) -> tuple[tuple[Sprite, ...], tuple[Sprite, ...]]:
    """Paint good and defective parts of a product; equal arguments give equal pixels."""
    rng = np.random.default_rng([seed, sum(code.encode())])
    product = PRODUCTS[code]
    good = tuple(_sprite(product, rng, scale, smear_px, good=True) for _ in range(_SPRITES_A_CLASS))
    return good, tuple(_sprite(product, rng, scale, smear_px, good=False) for _ in range(_SPRITES_A_CLASS))


def _sprite(product: Product, rng: np.random.Generator, scale: float, smear_px: int, *, good: bool) -> Sprite:
    canvas, shadow, anchor, outline = product.paint(rng, good=good)
    light, keep = finish(canvas, shadow, scale, smear_px)
    scaled = tuple((x * scale, y * scale) for x, y in outline)
    return cropped(Sprite(light, keep, (anchor[0] * scale, anchor[1] * scale), scaled))
