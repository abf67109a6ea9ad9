"""The order in which a line's products came, and what it says of the next one."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

KEPT: Final = 128
"""Changeovers remembered for a line; the oldest goes first."""
_FADING: Final = 0.98
"""Weight of a changeover over that of the next newer one, because a plant's habits change with its orders."""
_DOUBT: Final = 3.0
"""Weight of how often each product came, beside 1 for each time that one followed the present product."""


@dataclass(frozen=True)
class LearnedOrder:
    """The newest products of a line; none follows itself."""

    products: tuple[str, ...] = ()
    """The newest last."""

    def then(self, product: str) -> "LearnedOrder":
        """Return the order with one more product; a repeated one changes nothing."""
        if self.products[-1:] == (product,):
            return self
        return LearnedOrder((*self.products, product)[-KEPT:])

    def chances(self) -> dict[str, float]:
        """Estimate for each known product the chance that it comes next; the present one has none.

        Estimated from how often each product followed the present one, and how often it came at all.
        """
        if not self.products:
            return {}
        present, newest = self.products[-1], len(self.products) - 1
        weights = [_FADING ** (newest - place) for place in range(len(self.products))]
        often: defaultdict[str, float] = defaultdict(float)
        followed: defaultdict[str, float] = defaultdict(float)
        for product, weight in zip(self.products, weights, strict=True):
            often[product] += weight
        for (before, product), weight in zip(pairwise(self.products), weights[1:], strict=True):
            if before == present:
                followed[product] += weight
        del often[present]
        if not often:
            return {}
        rest, seen = sum(often.values()), sum(followed.values())
        return {
            product: (followed[product] + _DOUBT * weight / rest) / (seen + _DOUBT) for product, weight in often.items()
        }


def ranked(orders: Iterable[LearnedOrder]) -> list[str]:
    """Return the products of all `orders`, the most likely first; a chance on several lines is added up."""
    sums: defaultdict[str, float] = defaultdict(float)
    for order in orders:
        for product, chance in order.chances().items():
            sums[product] += chance
    return sorted(sums, key=lambda one: -sums[one])
