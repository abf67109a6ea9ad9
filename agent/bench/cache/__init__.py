"""Benchmark of eviction policies on traces of changeovers."""
