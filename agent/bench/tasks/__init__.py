"""Benchmark of each task: what its decoding costs, and the whole agent against `YOLO.predict`."""
