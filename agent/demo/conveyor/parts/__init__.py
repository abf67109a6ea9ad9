"""Painters of the demo line's parts, one a product; they import the drawing tools only."""
