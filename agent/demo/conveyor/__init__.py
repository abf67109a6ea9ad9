"""Rendered conveyor of line 1: parts, their ground truth, and a network camera. Imports messages only."""

from agent.demo.conveyor.products import PRODUCTS, Product
from agent.demo.conveyor.scene import Conveyor, Part

__all__ = ["PRODUCTS", "Conveyor", "Part", "Product"]
