"""Benchmark of the memory of the agent's processes."""
