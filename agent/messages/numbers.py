"""Canonical form of products, and of the numbers that controllers write as text."""

import math
import re
from typing import Final

LONGEST_PRODUCT: Final = 64
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")
_PLUS: Final = re.compile(r"\+0*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)")
_REAL: Final = re.compile(r"([+-]?(?:\d+[.,]\d*|[.,]\d+))[eE]([+-]?\d+)")


def canonical_product(text: str) -> str:
    """Return the canonical text of a product, `17.0` as `17`. Raises ValueError for none."""
    product = canonical_number(text)
    if not (1 <= len(product) <= LONGEST_PRODUCT and product.isprintable()):
        raise ValueError("expected 1 to 64 printable characters")
    return product


def canonical_number(text: str) -> str:
    """Return the canonical text of a number; any other text, `0.50`, `007` and `4E2` stay unchanged.

    A REAL with point and exponent such as `+1.700000E+01` is `17`, and so are `+17`, `17.0` and `+00017`. Raises
    ValueError for a number out of range.
    """
    if match := _REAL.fullmatch(text):
        real = float(f"{match[1].replace(',', '.')}e{match[2]}")
        if not math.isfinite(real):
            raise ValueError(f"{text} is no value")
        return str(int(real)) if real.is_integer() else repr(real)
    if match := _PLUS.fullmatch(text):
        text = match[1]
    match = _WHOLE.fullmatch(text)
    return match[1] if match else text
