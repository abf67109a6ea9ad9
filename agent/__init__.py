"""Changeover: vision agent for production lines that swaps models when the product changes."""

from typing import Final

__version__: Final = "0.1.0"
