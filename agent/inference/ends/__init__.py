"""Ends of a model's graph: many outputs packed to one, further inputs, and the pixels that it takes; beside yolo."""
