"""Builds the plant that benchmarks measure."""
