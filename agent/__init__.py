"""Changeover: the vision agent that changes over with the line."""

from typing import Final

__version__: Final = "0.1.0"
