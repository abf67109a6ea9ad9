"""Benchmark of swaps, and of lines beside loads."""
