"""Inference requests of the web process: models that are held for them, and their inference in the lines' slack."""
