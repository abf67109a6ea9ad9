"""The demo plant's line 1: a rendered conveyor, the truth about its parts, and a live camera above it."""

from agent.demo.conveyor.products import PRODUCTS, Product
from agent.demo.conveyor.scene import Conveyor, Part

__all__ = ["PRODUCTS", "Conveyor", "Part", "Product"]
