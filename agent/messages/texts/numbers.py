"""Canonical text of product codes, and of numbers as PLCs write them."""

import math
import re
from typing import Final

LONGEST_PRODUCT: Final = 64
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")
_PLUS: Final = re.compile(r"\+0*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)")
_REAL: Final = re.compile(r"([+-]?(?:\d+[.,]\d*|[.,]\d+))[eE]([+-]?\d+)")


def canonical_product(text: str) -> str:
    """Return the canonical text of a product code, such as `17` for `17.0`. Raises ValueError for an invalid code."""
    product = canonical_number(text)
    if not (1 <= len(product) <= LONGEST_PRODUCT and product.isprintable()):
        raise ValueError("expected 1 to 64 printable characters")
    return product


def canonical_number(text: str) -> str:
    """Return the canonical text of a number; `0.50`, `007`, `4E2` and texts that are no number stay unchanged.

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
