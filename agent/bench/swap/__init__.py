"""Measures swaps, and lines beside loads."""
