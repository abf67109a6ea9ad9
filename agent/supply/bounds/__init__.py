"""Bounds of a job: its duration, its window, its rate, the space of the store."""
